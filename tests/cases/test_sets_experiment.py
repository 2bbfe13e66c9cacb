"""The one program of all arms does what the recipe's own step does, arm by arm."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion import experiment, recipe, training
from pitprop.cases.set_diffusion.knobs import Knobs

TINY = Knobs(
    hidden=8, heads=2, dim_head=4, depth=2, encoder_depth=2, batch_size=4, replicas=2, diffusion_steps=50, ema=0.9
)
MODEL = experiment.whole(TINY)
STEPS = 6
ARMS = {
    "original": TINY,
    "synchronised": replace(TINY, synchronised=True, adaln="scaled", temperature=2.0, spt_scale=2.0),
    "list": replace(
        TINY,
        adaln="normal",
        layer_norm_scale=True,
        clip=0.05,
        warmup=2,
        horizon=STEPS,
        weight_decay=0.1,
        null_context="learnable",
        context_dropout=0.5,
        depth=1,
        encoder_depth=1,
    ),
    "apply_every": replace(TINY, accumulation="apply_every", weight_decay=0.1),
    "multi_steps": replace(TINY, accumulation="multi_steps", adaln="normal", warmup=1, horizon=3),
    "sgd": replace(TINY, optimizer="sgd", lr=0.5, adaln="normal", clip=0.05),
}


def part(whole, like, depths):
    """What of the whole model's parameters the arm's own model has."""

    def of(tree, shape, depth):
        if isinstance(shape, dict):
            return {name: of(tree[name], inner, depth) for name, inner in shape.items()}
        return tree[:, : depth or None] if tree.ndim == len(shape.shape) + 1 else tree

    return {
        name: {
            key: of(whole[name][key], inner, depths[name] if key == "blocks" else None)
            for key, inner in like[name].items()
        }
        for name in like
    }


QUICK = {"xla_backend_optimization_level": 0}
"""Six steps: most of the time would go into optimising what is compiled."""


@cache
def program():
    """Compiled once for all arms."""
    state = jax.tree.map(lambda leaf: leaf[None], experiment.start(TINY, MODEL, 100, TINY.replicas))
    sets = jnp.zeros((1, STEPS, TINY.replicas, TINY.batch_size // TINY.replicas, 7, 1, 8, 8))
    given = experiment.numbers(TINY, MODEL), state, jnp.zeros(STEPS), sets
    return experiment.program(MODEL).lower(*given).compile(compiler_options=QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARMS)
def test_an_arm_of_the_program_is_the_recipe_s_own_training(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))
    arm = ARMS[name]
    found = experiment.start(arm, MODEL, 100, arm.replicas)
    depths = {"dit": arm.depth, "encoder": arm.encoder_depth}
    params = part(found.params, training.shapes(arm), depths)
    tx = training.transformation(arm)
    state = {"params": params, "opt_state": tx.init(params), **training.extra(params, 100)}
    own = jax.jit(lambda state, batch: training.step(arm)(state, batch, tx), compiler_options=QUICK)
    data = recipe.batches(100, arm, 0)
    sets = np.stack([next(data) for _ in range(STEPS)])
    states, logged = program()(
        experiment.numbers(arm, MODEL),
        jax.tree.map(lambda leaf: leaf[None], found),
        experiment.rates(arm, STEPS),
        sets[None],
    )
    for at, batch in enumerate(sets):
        state, row = own(state, batch)
        for key, value in row.items():
            np.testing.assert_allclose(logged[key][0, at], value, rtol=2e-3, atol=2e-5, err_msg=f"{key}, step {at}")
    ended = jax.tree.map(lambda leaf: leaf[0], states)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4),
        part(ended.params, training.shapes(arm), depths),
        state["params"],
    )
    average = part(jax.tree.map(lambda leaf: leaf[None], ended.average), training.shapes(arm), depths)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b[0], rtol=1e-3, atol=2e-4), average, state["ema"])


def test_what_an_arm_leaves_out_is_neither_trained_nor_felt():
    arm = replace(TINY, depth=1)
    trained = experiment.numbers(arm, MODEL).trained
    assert trained["dit"]["blocks"]["mlp1"]["kernel"].ravel().tolist() == [1, 0]
    assert trained["encoder"]["blocks"]["mlp1"]["kernel"].ravel().tolist() == [1, 1]
    assert trained["dit"]["blocks"]["norm1"]["scale"].ravel().tolist() == [0, 0]
    assert trained["dit"]["null"].item() == 0


def test_arms_that_do_not_fit_are_explained():
    with pytest.raises(PitpropError, match="differs from the program in hidden, depth"):
        experiment.numbers(replace(TINY, hidden=16, depth=3), MODEL)
    with pytest.raises(PitpropError, match="MultiSteps would clip"):
        experiment.numbers(replace(TINY, accumulation="multi_steps", clip=1.0), MODEL)
    with pytest.raises(PitpropError, match="needs all of its replicas"):
        experiment.run(replace(TINY, synchronised=True), MODEL, [100], steps=1, every=1, replicas=1)


@pytest.mark.slow
def test_equal_seeds_differ_in_what_the_arm_says_alone():
    base = experiment.initial(TINY, MODEL, 100)
    other = experiment.initial(replace(TINY, adaln="normal", temperature=2.0), MODEL, 100)

    def differing(first, second):
        return {
            jax.tree_util.keystr(path, simple=True, separator=".")
            for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(second), strict=True)
            if bool(jnp.any(a != b))
        }

    assert differing(base, other) == {
        "dit.blocks.adaln.kernel",
        "dit.final.adaln.kernel",
        "dit.final.out.kernel",
        "encoder.blocks.attention.temperature",
    }
