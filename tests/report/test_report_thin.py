"""Thinning and pooling lose no extreme, no undefined stretch and no mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pitprop import PitpropError
from pitprop.report.thin import heads, keep, pool, spread

VALUES = arrays(np.float32, st.integers(1, 400), elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


@hypothesis_settings(deadline=None)
@given(values=VALUES, limit=st.integers(5, 60))
def test_extremes_ends_and_undefined_values_stay(values: np.ndarray, limit: int):
    kept = keep(values, limit)
    assert len(kept) <= max(limit, 2) and (np.diff(kept) > 0).all()
    assert kept[0] == 0 and kept[-1] == len(values) - 1
    assert np.isnan(values[kept]).any() == np.isnan(values).any()
    if not np.isnan(values).all():
        assert np.nanmin(values[kept]) == np.nanmin(values)
        assert np.nanmax(values[kept]) == np.nanmax(values)


def test_a_limit_without_room_for_a_bucket_is_refused():
    with pytest.raises(ValueError, match="at least 5"):
        keep(np.zeros(9, np.float32), 4)


@pytest.mark.parametrize(("limit", "expected"), [(1, [0]), (3, [0, 5, 10]), (99, list(range(11)))])
def test_spread_keeps_both_ends(limit: int, expected: list[int]):
    assert spread(list(range(11)), limit) == expected


def test_pooling_keeps_the_mean_of_whole_and_of_cut_squares():
    weights = np.random.default_rng(0).random((2, 7, 7)).astype(np.float32)
    pooled, factor = pool(weights, 4)
    assert factor == 2 and pooled.shape == (2, 4, 4)
    np.testing.assert_allclose(pooled[:, 0, 0], weights[:, :2, :2].mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(pooled[:, 3, 3], weights[:, 6, 6], rtol=1e-6)
    np.testing.assert_allclose(pooled[:, 3, 0], weights[:, 6, :2].mean(1), rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (2, 3, 5, 6)])
def test_heads_of_any_layout(shape: tuple[int, ...]):
    weights = np.arange(np.prod(shape), dtype=np.float16).reshape(shape)
    stack = heads(weights)
    assert stack.shape == ((shape[-3] if len(shape) > 2 else 1), 5, 6) and stack.dtype == np.float32
    np.testing.assert_array_equal(stack.ravel(), weights.reshape(-1)[: stack.size])


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3, 4, 5), (4, 0, 3)])
def test_an_array_that_is_no_attention_map_is_refused(shape: tuple[int, ...]):
    with pytest.raises(PitpropError, match="cannot be shown as attention maps"):
        heads(np.zeros(shape))
