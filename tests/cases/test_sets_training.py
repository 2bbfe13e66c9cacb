"""One step of the set diffusion, at tiny sizes: who gets a gradient when, replicas, and what is in the program."""

import json
import os
import subprocess
import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion import training
from pitprop.cases.set_diffusion.data import digits, sets
from pitprop.cases.set_diffusion.knobs import Knobs

TINY = dict(hidden=8, heads=2, dim_head=4, depth=1, encoder_depth=1, batch_size=2, replicas=2, diffusion_steps=50)


@cache
def logged(**chosen):
    """What is logged at each of four steps."""
    knobs = Knobs(**TINY, **chosen)
    tx = training.transformation(knobs)
    state = training.start(knobs, 100)
    state["opt_state"] = tx.init(state["params"])
    # Four steps: most of the time would go into optimising what is compiled.
    step = jax.jit(
        training.step(knobs), static_argnums=2, compiler_options={"xla_backend_optimization_level": 0}
    ).lower(jax.eval_shape(lambda: state), jax.ShapeDtypeStruct((2, 1, 7, 1, 8, 8), np.float32), tx)
    compiled, data, rows = step.compile(), sets(digits().train, 100, 0, num_sets=2, set_size=7), []
    for _ in range(4):
        state, row = compiled(state, next(data)[:, None])
        rows.append({name: float(value) for name, value in row.items()})
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("synchronised", [True, False])
def test_with_zero_initialisation_the_encoder_has_a_gradient_from_the_third_step_on(synchronised):
    norms = [row["encoder_gradient_norm"] for row in logged(synchronised=synchronised)]
    assert norms[:2] == [0, 0] and min(norms[2:]) > 0
    assert logged(synchronised=synchronised)[0]["dit_gradient_norm"] > 0


@pytest.mark.slow
def test_replicas_stay_one_model_where_gradients_are_averaged_and_part_where_not():
    assert [row["replica_spread"] for row in logged(synchronised=True)] == [0, 0, 0, 0]
    apart = [row["replica_spread"] for row in logged(synchronised=False)]
    assert apart[0] > 0 and apart[3] > apart[0]


def test_the_program_has_a_collective_only_where_it_is_synchronised():
    assert training.collectives(Knobs(**TINY, synchronised=True)) == ["psum"]
    assert training.collectives(Knobs(**TINY)) == []


def test_the_spread_is_the_distance_to_the_mean_in_a_loop():
    tree = {"a": jnp.array([[1.0, 2.0], [3.0, 2.0]]), "b": jnp.array([0.0, 4.0])}
    rows = np.array([[1, 2, 0], [3, 2, 4]], float)
    expected = np.sqrt(sum(((row - rows.mean(0)) ** 2).sum() for row in rows) / 2)
    np.testing.assert_allclose(training.spread(tree), expected, rtol=1e-6)


def test_clipping_bounds_each_replica_by_itself():
    tx = training.transformation(Knobs(**TINY, clip=1.0, optimizer="sgd", lr=1.0))
    gradients = {"a": jnp.array([[3.0, 4.0], [0.3, 0.4]])}
    updates, _ = tx.update(gradients, tx.init(gradients), gradients)
    np.testing.assert_allclose(updates["a"], [[-0.6, -0.8], [-0.3, -0.4]], rtol=1e-6)


def test_apply_every_before_adam_is_no_accumulation_and_multi_steps_is():
    gradients, params = {"a": jnp.ones((1, 3))}, {"a": jnp.zeros((1, 3))}

    def moved(accumulation):
        tx = training.transformation(Knobs(**TINY, accumulation=accumulation))
        state, places, at = tx.init(params), [], params
        for _ in range(8):
            updates, state = tx.update(gradients, state, at)
            at = jax.tree.map(jnp.add, at, updates)
            places.append(float(at["a"][0, 0]))
        return np.diff([0, *places]) != 0

    assert moved("multi_steps").tolist() == [False] * 3 + [True] + [False] * 3 + [True]
    assert moved("apply_every").tolist() == [False] * 3 + [True] * 5  # Adam's momentum goes on without a gradient


def test_sizes_that_do_not_divide_are_explained():
    with pytest.raises(PitpropError, match="`batch_size` is 8, which 3 `replicas` don't divide"):
        training.check(Knobs(replicas=3))
    with pytest.raises(PitpropError, match="choose a multiple of 4"):
        training.check(Knobs(hidden=6, heads=2))


DEVICES = """
import json, os
import jax, jax.numpy as jnp, numpy as np
from dataclasses import replace
from pitprop.cases.set_diffusion import training
from pitprop.cases.set_diffusion.data import digits, sets
from pitprop.cases.set_diffusion.knobs import Knobs
tiny = json.loads(os.environ["TINY"])
found = {}
for synchronised in (True, False):
    knobs = Knobs(**{**tiny, "replicas": 4, "batch_size": 4}, synchronised=synchronised)
    tx = training.transformation(knobs)
    state = training.start(knobs, 100)
    state["opt_state"] = tx.init(state["params"])
    on_devices, on_one = (jax.jit(training.step(knobs, num), static_argnums=2) for num in (4, 1))
    batches = sets(digits().train, 100, 0, num_sets=4, set_size=7)
    a = b = state
    for _ in range(3):
        batch = next(batches)[:, None]
        a, b = on_devices(a, batch, tx)[0], on_one(b, batch, tx)[0]
    apart = max(float(jnp.abs(x - y).max()) for x, y in zip(jax.tree.leaves(jax.device_get(a["params"])),
                                                            jax.tree.leaves(jax.device_get(b["params"])), strict=True))
    found[str(synchronised)] = [float(training.spread(jax.device_get(a["params"]))), apart]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_four_devices_do_what_four_copies_on_one_do():
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "TINY": json.dumps(TINY),
    }
    done = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, env=environment, check=True)
    found = json.loads(done.stdout)
    assert found["True"][0] == 0 and found["False"][0] > 1e-3
    assert max(apart for _, apart in found.values()) < 1e-4
