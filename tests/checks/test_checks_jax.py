"""The checks that a jax step can answer, each on a step with the fault and on one without."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from pitprop import PitpropError
from pitprop.checks import unsynchronised_replicas
from pitprop.checks._jax import JaxSubject, run_jax
from pitprop.cli import main
from pitprop.trials.jax import Transformation

RNG = np.random.default_rng(0)
SGD = Transformation(lambda params: (), lambda g, state, params=None: (jax.tree.map(lambda x: -0.1 * x, g), state))


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


X, C, Y = draw(8, 4), draw(8, 3), draw(8, 2)
DENSE = {"w": draw(4, 2)}


def subject(loss_of, params, batch=(X, C, Y), mean=lambda tree: tree):
    def step(state, batch, tx):
        loss, gradients = mean(jax.value_and_grad(loss_of)(state["params"], *batch))
        updates, opt_state = tx.update(gradients, state["opt_state"], state["params"])
        return {"params": jax.tree.map(jnp.add, state["params"], updates), "opt_state": opt_state}, {"loss": loss}

    return JaxSubject(step=step, state={"params": params, "opt_state": SGD.init(params)}, tx=SGD, batches=(batch,))


def findings(*args, **kwargs):
    found = run_jax(subject(*args, **kwargs), allow=("not-run",))
    return [(f.rule, f.severity, f.site, f.message) for f in found]


def error(out, y):
    return jnp.mean((out - y) ** 2)


def healthy(p, x, c, y):
    return error(x @ p["dense"]["w"] + c @ p["condition"]["w"], y)


HEALTHY = {"dense": DENSE, "condition": {"w": draw(3, 2)}}


def test_a_healthy_step_has_no_findings():
    assert findings(healthy, HEALTHY) == []


def test_two_zero_factors_that_wait_for_each_other():
    def loss_of(p, x, c, y):
        return error(x @ p["dense"]["w"] + p["rezero"]["gate"] * (c @ p["rezero"]["w"]), y)

    rezero = {"gate": jnp.zeros(()), "w": jnp.zeros((3, 2))}
    [(rule, severity, site, message)] = findings(loss_of, {"dense": DENSE, "rezero": rezero})
    assert (rule, severity, site) == ("dead-zero-chain", "failure", "rezero")
    assert "2 zero tensors (rezero.gate, rezero.w) wait for each other: 2 of 3" in message


def test_adaln_zero_is_of_order_0_1_2_and_no_failure():
    def loss_of(p, x, c, y):
        shift, scale = jnp.split(jax.nn.silu(c @ p["encoder"]["w"]) @ p["adaln"]["w"], 2, -1)
        return error((x * (1 + scale) + shift) @ p["final"]["w"], y)

    params = {"encoder": {"w": draw(3, 5)}, "adaln": {"w": jnp.zeros((5, 8))}, "final": {"w": jnp.zeros((4, 2))}}
    [(rule, severity, _, message)] = findings(loss_of, params)
    assert (rule, severity) == ("dead-zero-chain", "note")
    order = "wake-up order 0: 1 tensors (final.w); 1: 1 tensors (adaln.w); 2: 1 tensors (encoder.w)"
    assert order in message


def test_what_is_cut_off_and_what_is_unused():
    def loss_of(p, x, c, y):
        return healthy(p, x, c, y) + error(jax.lax.stop_gradient(x @ p["cut"]["w"]), y)

    params = HEALTHY | {"cut": DENSE, "spare": DENSE}
    found = {(rule, severity, site) for rule, severity, site, _ in findings(loss_of, params)}
    assert found == {("no-gradient", "warning", "cut"), ("no-gradient", "note", "spare")}


def test_a_loss_that_does_not_know_the_model():
    [(rule, severity, *_), *others] = findings(lambda p, x, c, y: error(x[:, :2], y) + c.sum(), {"dense": DENSE})
    assert (rule, severity) == ("no-gradient", "failure") and not others


def test_a_condition_that_is_not_used():
    [(rule, severity, _, message)] = findings(lambda p, x, c, y: error(x @ p["w"], y), DENSE)
    assert (rule, severity) == ("unused-input", "warning")
    assert message == "the step does not depend on `batch.1`: shuffled over the batch, it moves nothing."
    [(_, severity, _, message)] = findings(lambda p, x: (p["w"] ** 2).sum(), DENSE, batch=({"x": X},)[:1])
    assert severity == "failure" and "the step is the same whatever goes in" in message


def test_an_only_input_is_used_though_shuffling_moves_no_mean():
    assert findings(lambda p, x: jnp.mean((x @ p["w"]) ** 2), DENSE, batch=(X,)) == []


@pytest.mark.parametrize("synchronised", [True, False])
def test_replicas(synchronised):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    def step(state, batch, tx):
        def worker(params, opt_state, batch):
            loss, gradients = jax.value_and_grad(healthy)(params, *batch)
            if synchronised:
                gradients = jax.lax.pmean(gradients, "data")
            updates, opt_state = tx.update(gradients, opt_state, params)
            return jax.tree.map(jnp.add, params, updates), opt_state, jax.lax.pmean(loss, "data")

        mapped = jax.shard_map(
            worker, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=(P(), P(), P()), check_vma=False
        )
        params, opt_state, loss = mapped(state["params"], state["opt_state"], batch)
        return {"params": params, "opt_state": opt_state}, {"loss": loss}

    state = {"params": HEALTHY, "opt_state": ()}
    found = run_jax(JaxSubject(step=step, state=state, tx=SGD, batches=((X, C, Y),)), allow=("not-run",))
    assert [(f.rule, f.severity) for f in found] == ([] if synchronised else [("unsynchronised-replicas", "failure")])
    if not synchronised:
        assert "2 parameters (params.condition.w, params.dense.w) are computed by each worker" in found[0].message


def test_gradients_that_are_averaged_outside_of_the_mapping_are_synchronised():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    def step(state, batch, tx):
        worker = lambda p, batch: jax.tree.map(lambda g: g[None], jax.grad(healthy)(p, *batch))  # noqa: E731
        each = jax.shard_map(worker, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False)
        gradients = jax.tree.map(lambda g: g.mean(0), each(state["params"], batch))
        updates, opt_state = tx.update(gradients, state["opt_state"], state["params"])
        params = jax.tree.map(jnp.add, state["params"], updates)
        return {"params": params, "opt_state": opt_state}, {"loss": healthy(params, *batch)}

    state = {"params": HEALTHY, "opt_state": ()}
    assert not run_jax(JaxSubject(step=step, state=state, tx=SGD, batches=((X, C, Y),)), allow=("not-run",))


SHARE, WHOLE = P("data"), P()
FLAT = {"w": draw(4, 2)}


def linear(p, x, y):
    return error(x @ p["w"], y)


def descend(p, gradients):
    return jax.tree.map(lambda w, g: w - 0.1 * g, p, gradients)


def average(tree):
    return jax.lax.pmean(tree, "data")


def alone(p, x, y):
    return descend(p, jax.grad(linear)(p, x, y))


def together(p, x, y):
    return descend(p, average(jax.grad(linear)(p, x, y)))


def by_vma(p, x, y):
    return descend(p, jax.grad(lambda p: average(linear(p, x, y)))(p))


def sharded(p, x, y):
    gradient = jax.grad(linear)({"w": jax.lax.all_gather(p["w"], "data", tiled=True)}, x, y)["w"]
    return descend(p, {"w": jax.lax.psum_scatter(gradient, "data", tiled=True)})


def columns(p, x, y, mean=average):
    def loss_of(p):
        return error(x @ p["w"], jax.lax.dynamic_slice_in_dim(y, jax.lax.axis_index("model"), p["w"].shape[1], 1))

    return descend(p, mean(jax.grad(loss_of)(p)))


def ring(p, x, y):
    part = total = jax.grad(linear)(p, x, y)
    for _ in range(jax.lax.axis_size("data") - 1):
        part = jax.lax.ppermute(part, "data", [(0, 1), (1, 0)])
        total = jax.tree.map(jnp.add, total, part)
    return descend(p, total)


def over(worker, *, weights=WHOLE, batch=SHARE, results=None, axes=("data", "model"), vma=False):
    mesh = AbstractMesh((2,) * len(axes), axes, axis_types=(AxisType.Auto,) * len(axes))
    specs = {"in_specs": (weights, batch, batch), "out_specs": weights if results is None else results}
    return jax.shard_map(worker, mesh=mesh, check_vma=vma, **specs)


def scanned(once):
    return lambda p, x, y: jax.lax.scan(lambda p, _: (once(p, x, y), None), p, length=2)[0]


def looped(once):
    return lambda p, x, y: jax.lax.fori_loop(0, x.shape[0] + jnp.argmax(p["w"]), lambda _, p: once(p, x, y), p)


def skipped(once):
    return lambda p, x, y: jax.lax.cond(jnp.isfinite(x).all(), once, lambda p, x, y: p, p, x, y)


def side_by_side(worker, then):
    """As `pmap` hands them out: the workers' parameters in one array."""
    several = over(lambda *given: jax.tree.map(lambda w: w[None], worker(*given)), results=SHARE)
    return lambda *given: jax.tree.map(then, several(*given))


def replicas(update):
    def step(state, batch, tx):
        return {"params": update(state["params"], *batch), "opt_state": ()}, {}

    one = JaxSubject(step=step, state={"params": FLAT, "opt_state": ()}, tx=SGD, batches=((X, Y),))
    return [finding.severity for finding in unsynchronised_replicas.of_jax(one)]


RIGHT = {
    "one axis": over(together, axes=("data",)),
    "two axes": over(together),
    "two axes, summed by jax": over(by_vma, vma=True),
    "FSDP": over(sharded, weights=SHARE),
    "FSDP, several steps": scanned(over(sharded, weights=SHARE)),
    "tensor parallel": over(columns, weights=P(None, "model")),
    "ring": over(ring),
    "while": looped(over(together)),
    "cond": skipped(over(together)),
    "everybody has the whole batch": over(alone, batch=WHOLE),
    "averaged outside": side_by_side(alone, lambda w: w.mean(0)),
}
WRONG = {
    "one axis": over(alone, axes=("data",)),
    "two axes": over(alone),
    "tensor parallel": over(lambda p, x, y: columns(p, x, y, mean=lambda g: g), weights=P(None, "model")),
    "summed over the wrong axis": over(lambda p, x, y: descend(p, jax.lax.pmean(jax.grad(linear)(p, x, y), "model"))),
    "another number to each": over(lambda p, x, y: descend(p, {"w": jax.lax.axis_index("model")})),
    "scan": scanned(over(alone)),
    "while": looped(over(alone)),
    "cond": skipped(over(alone)),
    "only the first worker's is kept": side_by_side(alone, lambda w: w[0]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_mapping_that_synchronises_is_left_alone(name):
    assert replicas(RIGHT[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_mapping_that_does_not_is_a_failure(name):
    assert replicas(WRONG[name]) == ["failure"]


def test_a_step_that_uses_another_transformation_is_told_so():
    def step(state, batch, tx):
        return state, {"loss": jnp.sum(state["params"]["w"])}

    one = JaxSubject(step=step, state={"params": DENSE, "opt_state": ()}, tx=SGD, batches=((X,),))
    with pytest.raises(PitpropError, match="does not use the gradient transformation that it is given"):
        one.ask({}, (X,))
    found = run_jax(one, allow=("not-run",))
    assert any("does not use the gradient transformation" in f.message for f in found)


def test_the_command_line(capsys):
    assert main(["check", "examples/jax_recipe.py:recipe", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert [finding["rule"] for finding in out["findings"]] == ["not-run"]
