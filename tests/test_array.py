"""The helpers that tell the frameworks apart, in each of them."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from pitprop import _array

single = partial(np.array, dtype=np.float32)
MAKE = {"numpy": np.asarray, "torch": torch.asarray, "jax": jnp.asarray}
every_framework = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float32])
def test_accumulate_is_at_least_float32(dtype):
    x = _array.accumulate(torch.ones(3).to(dtype))
    assert x.dtype == torch.float32 and x.sum() == 3
    assert _array.accumulate(torch.ones(3, dtype=torch.float64)).dtype == torch.float64


def test_accumulate_drops_the_graph():
    assert not _array.accumulate(torch.ones(3, requires_grad=True)).requires_grad


def test_accumulate_in_numpy_and_jax():
    assert _array.accumulate(np.ones(3, dtype=np.float16)).dtype == np.float32
    assert _array.accumulate(jnp.ones(3, dtype=jnp.bfloat16)).dtype == jnp.float32


@every_framework
def test_size_and_like(make):
    x = make(np.ones((2, 3), dtype=np.float32))
    assert _array.size(x) == 6
    assert type(_array.like([1, 2], x)) is type(x)


@pytest.mark.parametrize(("count", "total"), [(3, 10), (10, 10), (50, 10), (1, 7), (64, 100), (1, 1)])
def test_every_spreads_evenly(count, total):
    positions = _array.every(count, total)
    assert len(positions) == min(count, total) == len(set(positions))
    assert positions.min() >= 0 and positions.max() < total
    centre = (positions.min() + positions.max()) / 2
    assert abs(centre - (total - 1) / 2) <= 0.5
    if len(positions) > 1:
        assert np.ptp(np.diff(positions)) <= 1


@every_framework
def test_divide_by_zero_is_nan(make):
    result = _array.divide(make(single([1, 0, 6])), make(single([0, 0, 3])))
    np.testing.assert_array_equal(_array.to_host(result), [np.nan, np.nan, 2])


@every_framework
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 4], 5),
        ([3e30, 4e30], 5e30),
        ([3e-30, 4e-30], 5e-30),
        ([0, 0], 0),
        ([], 0),
        ([1, np.inf], np.inf),
        ([3e30, -np.inf], np.inf),
        ([1, np.nan], np.nan),
    ],
)
def test_norm(make, values, expected):
    x = make(np.array([values, values], dtype=np.float32))
    np.testing.assert_allclose(_array.to_host(_array.norm(x, axis=-1)), [expected] * 2, rtol=1e-6)
    np.testing.assert_allclose(_array.to_host(_array.norm(x)), expected * np.sqrt(2), rtol=1e-6)


@every_framework
def test_mean_where(make):
    x = make(single([[1, 3, np.nan], [np.nan, 1, 1], [1, 2, 3]]))
    keep = make(np.array([[True, True, False], [True, True, True], [False, False, False]]))
    np.testing.assert_array_equal(_array.to_host(_array.mean_where(x, keep, axis=-1)), [2, np.nan, np.nan])


def test_to_host():
    assert _array.to_host(torch.ones(2, dtype=torch.bfloat16, requires_grad=True)).dtype == np.float32
    assert _array.to_host(jnp.ones(2, dtype=jnp.bfloat16)).dtype == np.float32
    assert _array.to_host(np.ones(2, dtype=np.float64)).dtype == np.float64
    assert _array.to_host(3.0) == 3.0
