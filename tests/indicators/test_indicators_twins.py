"""Every indicator in every framework and type, against its float64 twin; under jit and vmap; no graph kept."""

import jax
import numpy as np
import pytest
import torch
from indicator_twins import DTYPES, FRAMEWORKS, TWINS

from pitprop._array import to_host
from pitprop.indicators import INDICATORS, by_name

NAMES = [indicator.name for indicator in INDICATORS]
each_indicator = pytest.mark.parametrize("name", NAMES)


def make(framework, dtype, arrays):
    """`arrays` in a framework and type, and in float64 as that type rounds them."""
    made = [FRAMEWORKS[framework](np.asarray(x, dtype=np.float32 if framework == "jax" else None)) for x in arrays]
    kind = DTYPES[framework, dtype]
    made = [x.to(kind) if framework == "torch" else x.astype(kind) for x in made]
    return made, [to_host(x).astype(np.float64) for x in made]


@each_indicator
@pytest.mark.parametrize(("framework", "dtype"), DTYPES)
def test_equals_its_twin(name, framework, dtype):
    twin = TWINS[name]
    for seed in range(3):
        arrays, rounded = make(framework, dtype, twin.arguments(np.random.default_rng(seed)))
        measured = to_host(twin.call(by_name(name).function, arrays))
        expected = np.asarray(twin.call(twin.naive, rounded))
        assert measured.shape == expected.shape
        np.testing.assert_allclose(measured, expected, rtol=2e-5, atol=2e-6)
        assert measured.dtype == (np.float64 if dtype == "float64" else np.float32)


@pytest.mark.slow  # jax compiles every operation on its own
@each_indicator
def test_jax_need_not_compile(name):
    twin, function = TWINS[name], by_name(name).function
    arrays, _ = make("jax", "float32", twin.arguments(np.random.default_rng(0)))
    with jax.disable_jit():
        step_by_step = twin.call(function, arrays)
    np.testing.assert_allclose(step_by_step, twin.call(function, arrays), rtol=2e-5, atol=2e-6)


@each_indicator
@pytest.mark.parametrize("vmap", [jax.vmap, torch.func.vmap])
def test_is_the_same_under_vmap(name, vmap):
    twin, function = TWINS[name], by_name(name).function
    framework = "jax" if vmap is jax.vmap else "torch"
    runs = [make(framework, "float32", twin.arguments(np.random.default_rng(seed)))[0] for seed in range(3)]
    stack = torch.stack if framework == "torch" else jax.numpy.stack
    together = vmap(lambda *a: twin.call(function, a))(*[stack(list(x)) for x in zip(*runs, strict=True)])
    apart = [to_host(twin.call(function, arrays)) for arrays in runs]
    np.testing.assert_allclose(to_host(together), np.stack(apart), rtol=2e-5, atol=2e-6)


@each_indicator
def test_autocast_changes_nothing(name):
    twin, function = TWINS[name], by_name(name).function
    arrays, _ = make("torch", "float32", twin.arguments(np.random.default_rng(0)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = twin.call(function, arrays)
    np.testing.assert_array_equal(inside, twin.call(function, arrays))


@each_indicator
def test_keeps_no_graph(name):
    twin = TWINS[name]
    arrays = [torch.asarray(x).requires_grad_() for x in twin.arguments(np.random.default_rng(0))]
    assert not twin.call(by_name(name).function, arrays).requires_grad


@each_indicator
def test_leaves_its_arguments_alone(name):
    twin = TWINS[name]
    arrays = twin.arguments(np.random.default_rng(0))
    before = [x.copy() for x in arrays]
    twin.call(by_name(name).function, arrays)
    for x, y in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, y)


WHOLE_TENSORS = {"gradient_norm", "dead_share", "displacement_ratio", "lost_update_share", "momentum_alignment"}
WHOLE_TENSORS |= {"rotation_ratio", "second_moment_ratio", "shrinkage", "starved_share", "step_scale"}
REDUCE_EVERYTHING = {name for name in NAMES if name.split("_")[0] in ("branch", "output", "saturated", "update")}


@pytest.mark.parametrize("name", sorted(set(NAMES) - REDUCE_EVERYTHING - WHOLE_TENSORS))
def test_batch_axes_are_independent(name):
    twin, function = TWINS[name], by_name(name).function
    runs = [twin.arguments(np.random.default_rng(seed)) for seed in range(6)]
    batched = [np.reshape(np.stack(x), (2, 3, *x[0].shape)) for x in zip(*runs, strict=True)]
    apart = np.stack([twin.call(function, arrays) for arrays in runs])
    np.testing.assert_allclose(twin.call(function, batched), apart.reshape(2, 3, *apart.shape[1:]), rtol=1e-9)
