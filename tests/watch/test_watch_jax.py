"""A jax training under watch: inert, measured right, written in one transfer, and heard by the rules."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import pitprop
from pitprop import RUN, PitpropError
from pitprop.report import build
from pitprop.trace import Reader
from pitprop.watch import jax as edge
from pitprop.watch.transformation import states_in

WIDTH = 8
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(16, 5, WIDTH)), jnp.float32)
Y = jnp.asarray(RNG.normal(size=(16, 5, WIDTH)), jnp.float32)


def params():
    keys = jax.random.split(jax.random.key(0), 2)
    draw = [jax.random.normal(key, (WIDTH, WIDTH)) / 4 for key in keys]
    return {"enc": {"w": draw[0], "b": jnp.zeros(WIDTH)}, "head": {"w": draw[1]}, "gain": jnp.ones(())}


def loss_of(p, x, y, poison=1.0):
    h = pitprop.optax.tap("enc", jnp.tanh(x @ p["enc"]["w"] + p["enc"]["b"]))
    return jnp.mean((h @ p["head"]["w"] * p["gain"] * poison - y) ** 2)


def step_with(tx, traces, *, donate=False):
    def step(p, state, x, y, measure=True, poison=1.0):
        traces.append(1)
        collected = jax.value_and_grad(pitprop.optax.collect(loss_of), has_aux=True)
        (loss, taps), gradients = collected(p, x, y, poison, measure=measure)
        updates, state = tx.update(gradients, state, p)
        return optax.apply_updates(p, updates), state, loss, taps

    return jax.jit(step, donate_argnums=(0, 1) if donate else ())


def run(tmp_path, tx, steps=6, *, poison=(), donate=False, **options):
    traces = []
    step = step_with(tx, traces, donate=donate)
    p = params()
    state = tx.init(p)
    options = {"every": 1, "budget": None, "quiet": True} | options
    with pitprop.optax.session(run=tmp_path / "run", **options) as watch:
        for number in range(steps):
            factor = jnp.nan if number in poison else 1.0
            p, state, loss, taps = step(p, state, X, Y, watch.sampling, factor)
            watch.take(state, taps=taps, loss=loss)
    return p, watch, traces


def plain(tx, steps=6):
    @jax.jit
    def step(p, state, x, y, poison=1.0):
        loss, gradients = jax.value_and_grad(loss_of)(p, x, y, poison)
        updates, state = tx.update(gradients, state, p)
        return optax.apply_updates(p, updates), state, loss

    p = params()
    state = tx.init(p)
    for _ in range(steps):
        p, state, _ = step(p, state, X, Y, 1.0)
    return p


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def series(folder, indicator, site):
    with Reader(folder) as trace:
        return trace.series(indicator, site)


def test_parameters_are_equal_bit_for_bit_and_the_step_is_traced_once(tmp_path):
    p, _, traces = run(tmp_path, pitprop.optax.watch(optax.adamw(1e-2)), every=2, donate=True)
    assert same(p, plain(optax.adamw(1e-2)))
    assert len(traces) == 1, "measured and plain steps are one program"


def test_numbers_are_those_of_a_slow_float64_twin(tmp_path):
    p = params()
    run(tmp_path, pitprop.optax.watch(optax.sgd(0.5)), steps=1)
    loss_alone = lambda p: loss_of(p, X, Y)  # noqa: E731
    gradients = jax.tree.map(lambda g: np.asarray(g, np.float64), jax.grad(loss_alone)(p))
    norms = {
        "enc": np.sqrt((gradients["enc"]["w"] ** 2).sum() + (gradients["enc"]["b"] ** 2).sum()),
        "head": np.sqrt((gradients["head"]["w"] ** 2).sum()),
        "<model>": abs(gradients["gain"]),
    }
    weight = np.sqrt((np.asarray(p["head"]["w"], np.float64) ** 2).sum())
    expected = {("gradient_norm", site): norm for site, norm in norms.items()} | {
        ("gradient_share", "enc"): norms["enc"] ** 2 / sum(n**2 for n in norms.values()),
        ("update_ratio", "head"): 0.5 * norms["head"] / weight,
        ("weight_rms", "head"): weight / WIDTH,
        ("zero_gradient_share", "head"): 0.0,
        ("num_trained", RUN): 3.0,
        ("whole_gradient_norm", RUN): np.sqrt(sum(n**2 for n in norms.values())),
        ("loss", RUN): float(loss_alone(p)),
    }
    for (indicator, site), value in expected.items():
        steps, values = series(tmp_path / "run", indicator, site)
        assert steps.tolist() == [0]
        np.testing.assert_allclose(values, [value], rtol=1e-5, err_msg=f"{indicator} {site}")
    h = np.tanh(np.asarray(X, np.float64) @ np.asarray(p["enc"]["w"], np.float64))[:2]
    u = h / np.linalg.norm(h, axis=-1, keepdims=True)
    cosine = np.mean([(np.sum(one @ one.T) - 5) / 20 for one in u])
    np.testing.assert_allclose(series(tmp_path / "run", "token_cosine", "enc")[1], [cosine], rtol=1e-4)


def test_one_transfer_per_measured_step_and_only_there(tmp_path, monkeypatch):
    fetched, fetch = [], edge.fetch
    monkeypatch.setattr(edge, "fetch", lambda vector: fetched.append(vector.shape) or fetch(vector))
    monkeypatch.setattr("pitprop.watch.session.DEVICE_S", float("inf"))
    run(tmp_path, pitprop.optax.watch(optax.sgd(0.1)), steps=13, every=4)
    assert [shape[0] - 50 > 0 for shape in fetched] == [True] * 4, "one vector of norms, taps and losses each"
    assert series(tmp_path / "run", "gradient_norm", "head")[0].tolist() == [0, 4, 8, 12]
    assert series(tmp_path / "run", "loss", RUN)[0].tolist() == list(range(13))


def test_the_step_is_given_to_the_device_before_the_last_one_is_read(tmp_path, monkeypatch):
    events, fetch = [], edge.fetch
    monkeypatch.setattr(edge, "fetch", lambda vector: events.append("read") or fetch(vector))
    tx = pitprop.optax.watch(optax.sgd(0.1))
    p = params()
    state = tx.init(p)
    step = step_with(tx, [])
    with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        for _ in range(3):
            p, state, loss, _ = step(p, state, X, Y)
            events.append("dispatched")
            watch.take(state, loss=loss)
    assert events == ["dispatched", "dispatched", "read", "dispatched", "read", "read"]


def test_a_nan_gradient_is_found_while_the_run_goes_on(tmp_path):
    p = params()
    tx = pitprop.optax.watch(optax.set_to_zero())
    step, state = step_with(tx, []), tx.init(p)
    with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        for number in range(30):
            p, state, _, _ = step(p, state, X, Y, True, jnp.nan if number >= 5 else 1.0)
            watch.take(state, loss=1.0)
        live = [(f.rule, f.onset) for f in watch.findings]
    assert ("non-finite", 5) in live
    with Reader(tmp_path / "run") as trace:
        again = pitprop.detect(trace.rows())
    assert [(f.rule, f.site, f.onset) for f in again] == [(f.rule, f.site, f.onset) for f in watch.findings]
    report = build(tmp_path / "run")
    assert any(finding.rule == "non-finite" for finding in report.findings)


def test_a_nan_loss_is_found_at_its_step(tmp_path):
    _, watch, _ = run(tmp_path, pitprop.optax.watch(optax.sgd(0.1)), poison=(3,))
    assert ("non-finite", RUN, 3) in [(f.rule, f.site, f.onset) for f in watch.findings]


def test_scan_is_one_call_of_several_steps(tmp_path):
    tx = pitprop.optax.watch(optax.adam(1e-2))

    def several_with(tx):
        def several(p, state):
            def body(carry, _):
                p, state = carry
                loss, gradients = jax.value_and_grad(loss_of)(p, X, Y)
                updates, state = tx.update(gradients, state, p)
                return (optax.apply_updates(p, updates), state), loss

            (p, state), losses = jax.lax.scan(body, (p, state), length=3)
            return p, state, losses[-1]

        return jax.jit(several)

    p = expected = params()
    state, other = tx.init(p), optax.adam(1e-2).init(p)
    several, unwatched = several_with(tx), several_with(optax.adam(1e-2))
    with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        for _ in range(2):
            p, state, loss = several(p, state)
            watch.take(state, loss=loss, num_steps=3)
            expected, other, _ = unwatched(expected, other)
    assert same(p, expected)
    assert series(tmp_path / "run", "gradient_norm", "enc")[0].tolist() == [2, 5]


def test_multi_steps_and_apply_every(tmp_path):
    inside = optax.MultiSteps(pitprop.optax.watch(optax.adam(1e-2)), 3).gradient_transformation()
    p, _, traces = run(tmp_path, inside, steps=6)
    assert same(p, plain(optax.MultiSteps(optax.adam(1e-2), 3).gradient_transformation()))
    assert len(traces) == 1
    steps, _ = series(tmp_path / "run", "gradient_norm", "enc")
    assert steps.tolist() == [2, 5], "a micro-step without an update has no row of gradients"
    around = pitprop.optax.watch(optax.chain(optax.sgd(1e-2), optax.apply_every(2)))
    p, _, _ = run(tmp_path / "b", around, steps=4)
    _, ratios = series(tmp_path / "b" / "run", "update_ratio", "head")
    assert (ratios > 0).tolist() == [False, True, False, True]


def test_flax_train_state_and_nnx_optimizer(tmp_path):
    model = linen.Dense(WIDTH)
    variables = model.init(jax.random.key(0), X)
    state = TrainState.create(apply_fn=model.apply, params=variables["params"], tx=pitprop.optax.watch(optax.sgd(0.1)))
    gradients = jax.grad(lambda p: jnp.mean(model.apply({"params": p}, X) ** 2))(state.params)
    state = jax.jit(lambda s, g: s.apply_gradients(grads=g))(state, gradients)
    net = nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, pitprop.optax.watch(optax.sgd(0.1)), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        optimizer.update(net, nnx.grad(lambda net: jnp.mean(net(X) ** 2))(net))

    step(net, optimizer)
    for name, given in (("linen", state), ("nnx", optimizer.opt_state)):
        with pitprop.optax.session(run=tmp_path / name, every=1, budget=None, quiet=True) as watch:
            watch.take(given)
        assert series(tmp_path / name, "gradient_norm", "<model>")[1][0] > 0, name
    assert states_in(optimizer.opt_state)[0].table.names == ("bias", "kernel")


class Tapped(nnx.Linear):
    def __call__(self, x):
        return pitprop.optax.tap("out", super().__call__(x))


def test_nnx_as_the_documentation_has_it(tmp_path):
    def trained(tx):
        net, traces = Tapped(WIDTH, WIDTH, rngs=nnx.Rngs(0)), []
        optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)

        @nnx.jit
        def step(net, optimizer, x, measure):
            traces.append(1)
            measured = nnx.value_and_grad(pitprop.optax.collect(lambda net, x: jnp.mean(net(x) ** 2)), has_aux=True)
            (loss, taps), gradients = measured(net, x, measure=measure)
            optimizer.update(net, gradients)
            return loss, taps

        @nnx.jit
        def plain(net, optimizer, x):
            loss, gradients = nnx.value_and_grad(lambda net, x: jnp.mean(net(x) ** 2))(net, x)
            optimizer.update(net, gradients)
            return loss

        return net, optimizer, step, plain, traces

    net, optimizer, step, _, traces = trained(pitprop.optax.watch(optax.adamw(1e-2)))
    with pitprop.optax.session(run=tmp_path / "run", every=2, budget=None, quiet=True) as watch:
        for _ in range(5):
            loss, taps = step(net, optimizer, X, watch.sampling)
            watch.take(optimizer, taps=taps, loss=loss)
    assert series(tmp_path / "run", "token_cosine", "out")[0].tolist() == [0, 2, 4] and len(traces) == 1
    other, optimizer, _, plain, _ = trained(optax.adamw(1e-2))
    for _ in range(5):
        plain(other, optimizer, X)
    assert same(nnx.state(net, nnx.Param), nnx.state(other, nnx.Param))


def test_a_collected_function_takes_measure_behind_its_own_arguments():
    def sown(x, scale=2.0, **others):
        pitprop.optax.sow("a", number=x * scale)
        return x

    def several(*xs):
        return sown(*xs)

    for function in (sown, several):
        assert float(pitprop.optax.collect(function)(1.0, 3.0)[1]["number"]["a"]) == 3.0
        assert np.isnan(pitprop.optax.collect(function)(1.0, 3.0, measure=jnp.asarray(False))[1]["number"]["a"])
    assert np.isnan(pitprop.optax.collect(sown)(1.0, 3.0, jnp.asarray(False))[1]["number"]["a"])
    assert pitprop.optax.collect(sown)(1.0, other=1)[0] == 1.0


def test_parts_of_a_model_under_multi_transform(tmp_path):
    tx = optax.multi_transform(
        {"seen": pitprop.optax.watch(optax.sgd(0.1)), "other": optax.sgd(0.1)},
        {"enc": "seen", "head": "other", "gain": "other"},
    )
    run(tmp_path, tx, steps=2)
    with Reader(tmp_path / "run") as trace:
        assert trace.sites("gradient_norm") == ("enc",)


def test_several_watches_are_read_as_one(tmp_path):
    groups = {"enc": "a", "head": "b", "gain": "b"}
    watched = pitprop.optax.watch
    both = optax.multi_transform({"a": watched(optax.adam(1e-2)), "b": watched(optax.sgd(0.1))}, groups)
    _, _, traces = run(tmp_path, both, poison=(3,))
    one = watched(optax.multi_transform({"a": optax.adam(1e-2), "b": optax.sgd(0.1)}, groups))
    run(tmp_path / "one", one, poison=(3,))
    assert len(traces) == 1
    for indicator, site in (("gradient_norm", "head"), ("whole_gradient_norm", RUN), ("update_ratio", "enc")):
        several, alone = (series(folder / "run", indicator, site) for folder in (tmp_path, tmp_path / "one"))
        np.testing.assert_array_equal(several, alone)
        assert np.isfinite(several[1]).tolist() == [True] * 3 + [False] * 3


def test_histograms_of_one_module_in_two_watches_are_added(tmp_path):
    watched = pitprop.optax.watch(optax.sgd(0.1), histograms=True)
    parts = {"a": watched, "b": watched, "c": pitprop.optax.watch(optax.sgd(0.1))}
    run(tmp_path, optax.multi_transform(parts, {"enc": {"w": "a", "b": "b"}, "head": "c", "gain": "c"}), steps=1)
    with Reader(tmp_path / "run") as trace:
        assert trace.array("gradient_histogram", 0, "enc").sum() == WIDTH * WIDTH + WIDTH


def test_a_watch_that_rests_keeps_its_last_numbers(tmp_path):
    waiting = optax.MultiSteps(pitprop.optax.watch(optax.sgd(0.1)), 2)
    parts = {"a": pitprop.optax.watch(optax.sgd(0.1)), "b": waiting.gradient_transformation()}
    run(tmp_path, optax.multi_transform(parts, {"enc": "a", "head": "b", "gain": "b"}), steps=4)
    assert series(tmp_path / "run", "gradient_norm", "enc")[0].tolist() == [0, 1, 2, 3]
    steps, norms = series(tmp_path / "run", "gradient_norm", "head")
    assert steps.tolist() == [1, 2, 3] and norms[0] == norms[1] != norms[2], "absent before its first update"


@pytest.mark.parametrize("of", ["state", "taps"])
def test_one_of_an_ensemble_is_asked_for(of, tmp_path):
    tx = pitprop.optax.watch(optax.sgd(0.1))
    p = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, 3 * leaf]), params())
    step = jax.jit(jax.vmap(step_with(tx, []), (0, 0, None, None)))
    _, state, _, taps = step(p, jax.vmap(tx.init)(p), X, Y)
    first = jax.tree.map(lambda a: a[0], {"state": state, "taps": taps})
    with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        with pytest.raises(PitpropError, match=rf"with a leading axis, of shape \(3,\)(.|\n)*a\[0\], {of}\)"):
            watch.take(**first | {of: {"state": state, "taps": taps}[of]})
        watch.take(**first)
    assert float(series(tmp_path / "run", "weight_rms", "head")[1][0]) == pytest.approx(
        float(jnp.sqrt(jnp.mean(params()["head"]["w"] ** 2)))
    )


def test_a_link_in_a_chain_has_gradients_and_no_updates(tmp_path):
    run(tmp_path, optax.chain(pitprop.optax.watch(), optax.sgd(0.1)), steps=1)
    with Reader(tmp_path / "run") as trace:
        names = trace.indicators()
    assert "gradient_norm" in names and "update_ratio" not in names


def test_where_all_is_nan_the_numbers_are_nan_and_not_absent(tmp_path):
    run(tmp_path, pitprop.optax.watch(optax.sgd(0.1)), steps=4, poison=(1,))
    for indicator, finite in (("gradient_norm", 1), ("update_ratio", 1), ("weight_rms", 2)):
        _, values = series(tmp_path / "run", indicator, "head")
        assert np.isfinite(values).tolist() == [row < finite for row in range(4)], indicator


def test_a_part_without_updates_has_no_update_ratio(tmp_path):
    parts = {"a": pitprop.optax.watch(optax.sgd(0.1)), "b": optax.chain(pitprop.optax.watch(), optax.sgd(0.1))}
    run(tmp_path, optax.multi_transform(parts, {"enc": "a", "head": "b", "gain": "b"}), steps=1)
    with Reader(tmp_path / "run") as trace:
        assert trace.sites("update_ratio") == ("enc",) and "head" in trace.sites("weight_rms")


def test_exact_zeros_and_resuming(tmp_path):
    tx = pitprop.optax.watch(optax.sgd(0.1))
    zero = {"a": {"w": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}, "c": {"w": jnp.ones((2, 2))}}
    state = tx.init(zero)
    gradients = zero | {"c": {"w": jnp.ones((2, 2))}}
    for again in ("refuse", "resume"):
        with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True, exist=again) as watch:
            for _ in range(2):
                _, state = tx.update(gradients, state, zero)
                watch.take(state, loss=1.0)
    steps, shares = series(tmp_path / "run", "zero_gradient_share", "a")
    assert steps.tolist() == [0, 1, 2, 3] and shares.tolist() == [1.0] * 4
    assert np.isnan(series(tmp_path / "run", "update_ratio", "a")[1]).all(), "zero weights have no relative change"


def test_taps_hand_on_what_they_got_and_cost_nothing_without_a_collector():
    x = jnp.ones((2, 3, 4))
    assert pitprop.optax.tap("x", x) is x
    plainly = jax.make_jaxpr(lambda x: x + 1)(x)
    assert str(jax.make_jaxpr(lambda x: pitprop.optax.tap("x", x) + 1)(x)) == str(plainly)
    off = jax.jit(lambda flag: pitprop.optax.collect(lambda: pitprop.optax.tap("x", x))(measure=flag)[1])
    assert np.isnan(off(False)["token_cosine"]["x"]) and off(True)["token_cosine"]["x"] == 1


def test_a_site_used_again_and_numbers_of_ones_own():
    def function(x):
        for _ in range(2):
            pitprop.optax.tap("block", x)
        pitprop.optax.sow(RUN, output_uniqueness=0.5)
        return x.sum(), "aux"

    (_, (aux, numbers)) = pitprop.optax.collect(function, has_aux=True)(jnp.ones((2, 3, 4)))
    assert aux == "aux" and list(numbers["token_cosine"]) == ["block", "block#2"]
    assert float(numbers["output_uniqueness"][RUN]) == 0.5


@pytest.mark.parametrize("wrap", ["scan", "vmap", "remat"])
def test_a_tap_inside_of_an_inner_transformation_says_what_to_do(wrap):
    def inner(x):
        return pitprop.optax.tap("deep", x)

    functions = {
        "scan": lambda x: jax.lax.scan(lambda carry, _: (inner(carry), None), x, length=2)[0],
        "vmap": jax.vmap(inner),
        "remat": jax.remat(inner),
    }
    with pytest.raises(PitpropError, match=r"`deep` was tapped inside of an inner transformation(.|\n)*hand its num"):
        jax.jit(pitprop.optax.collect(functions[wrap]))(jnp.ones((2, 3, 4)))


def errors():
    tx = pitprop.optax.watch(optax.sgd(0.1))
    state = tx.init(params())
    return {
        "without the state of a watched optimizer": lambda watch: watch.take(optax.sgd(0.1).init(params())),
        "2 states of `pitprop.optax.watch` that measure `enc.b`": lambda watch: watch.take((state, state)),
        "`take` was called inside of compiled code": lambda watch: jax.jit(lambda s: watch.take(s))(state),
        "inside of the step: `pitprop.optax.sow": lambda watch: watch.take(state, outputs=jnp.ones(4)),
        "a name of pitprop's own": lambda watch: watch.take(state, gradient_norm=1.0),
        "`a` at `x` has the shape": lambda watch: pitprop.optax.collect(
            lambda: pitprop.optax.sow("x", a=jnp.ones(2))
        )(),
        "tap 'x' got an array of shape": lambda watch: pitprop.optax.tap("x", jnp.ones(2)),
    }


@pytest.mark.parametrize("text", errors())
def test_errors_say_what_to_do(text, tmp_path):
    with pytest.raises(PitpropError) as error:
        with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
            errors()[text](watch)
    assert text in str(error.value) and "Do: " in str(error.value)


def attended(q, k, mask=None):
    logits = np.einsum("bhqd,bhkd->bhqk", np.asarray(q, np.float64), np.asarray(k, np.float64)) / q.shape[-1] ** 0.5
    logits = logits if mask is None else np.where(mask, logits, -np.inf)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def entropy(p, visible):
    with np.errstate(divide="ignore", invalid="ignore"):
        return (-np.where(p > 0, p * np.log(p), 0).sum(-1) / np.log(visible))[:, :, visible > 1].mean()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("module", [nnx, linen])
def test_attention_fn_measures_and_changes_nothing(module, causal):
    q, k, v = (jax.random.normal(key, (3, 6, 2, 4)) * 2 for key in jax.random.split(jax.random.key(1), 3))
    mask = jnp.tril(jnp.ones((1, 1, 6, 6), bool)) if causal else None
    measured = pitprop.optax.attention_fn("attn", module.dot_product_attention)
    out, numbers = jax.jit(pitprop.optax.collect(lambda: measured(q, k, v, mask=mask)))()
    assert same(out, jax.jit(lambda: module.dot_product_attention(q, k, v, mask=mask))())
    p = attended(q.swapaxes(1, 2), k.swapaxes(1, 2), mask)
    visible = np.arange(1, 7) if causal else np.full(6, 6)
    np.testing.assert_allclose(numbers["attention_entropy"]["attn"], entropy(p, visible), rtol=1e-5)
    assert set(numbers) == {
        *("attention_entropy", "attention_sink", "attention_logit_peak", "attention_logit_scale", "head_redundancy")
    }
    assert np.isfinite(numbers.pop("attention_sink")["attn"]) == causal  # a set of keys has no first one
    assert all(np.isfinite(numbers[name]["attn"]) for name in numbers)


def test_the_torch_edge_and_the_jax_edge_say_the_same_of_one_attention():
    import torch

    from pitprop.watch.attention import from_qk

    q, k = (np.random.default_rng(seed).normal(size=(3, 2, 40, 4)).astype(np.float32) * 2 for seed in (1, 2))
    ours = pitprop.optax.collect(
        lambda: pitprop.optax.tap_attention("a", jnp.asarray(q), jnp.asarray(k), is_causal=True)
    )
    numbers = {name: float(sites["a"]) for name, sites in ours()[1].items()}
    theirs = from_qk(torch.from_numpy(q), torch.from_numpy(k), is_causal=True).numbers
    assert numbers == pytest.approx({name: float(value) for name, value in theirs.items()}, rel=1e-4)


class Block(linen.Module):
    @linen.compact
    def __call__(self, x):
        return x + linen.Dense(WIDTH)(linen.MultiHeadDotProductAttention(2, name="attn")(x, x, sow_weights=True))


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.attn = nnx.MultiHeadAttention(2, WIDTH, WIDTH, decode=False, rngs=rngs)

    def __call__(self, x):
        return x + self.attn(x, sow_weights=True)


def test_intermediates_of_linen_and_nnx_are_read():
    model = Block()
    variables = model.init(jax.random.key(0), X)
    _, sown = model.apply(variables, X, capture_intermediates=True, mutable=["intermediates"])
    numbers = pitprop.optax.from_intermediates(sown)
    assert list(numbers["attention_entropy"]) == ["attn"] and list(numbers["token_cosine"]) == ["<model>"]
    p = np.asarray(sown["intermediates"]["attn"]["attention_weights"][0], np.float64)[:4]
    np.testing.assert_allclose(numbers["attention_entropy"]["attn"], entropy(p, np.full(5, 5)), rtol=1e-5)
    block = NnxBlock(nnx.Rngs(0))
    _, sown = nnx.capture(block, nnx.Intermediate)(X)
    numbers = pitprop.optax.from_intermediates(sown)
    assert 0 < float(numbers["attention_entropy"]["attn"]) < 1


def test_torch_is_not_needed():
    code = (
        "import random; random.seed(0); before = random.getstate()\n"
        "import sys, pitprop; pitprop.optax.session; assert random.getstate() == before\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_four_devices():
    script = Path(__file__).with_name("jax_on_four_devices.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["pmap", "shard_map", "jit", "done"]
