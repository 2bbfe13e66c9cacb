"""Attention measures from q and k: masks, causal order, grouped heads, samples, memory."""

import math
import tracemalloc

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from indicator_twins import FRAMEWORKS

from pitprop._array import to_host
from pitprop.indicators import (
    attention_entropy,
    attention_entropy_qk,
    attention_entropy_qk_estimate,
    attention_logit_scale,
)

BATCH, HEADS, KV_HEADS, QUERIES, KEYS, WIDTH = 2, 4, 2, 150, 160, 8  # more queries than a block holds


@pytest.fixture
def qk():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(BATCH, HEADS, QUERIES, WIDTH)), 2 * rng.normal(size=(BATCH, KV_HEADS, KEYS, WIDTH))
    return q.astype(np.float32), k.astype(np.float32)


def masks():
    rng = np.random.default_rng(1)
    padding = np.ones((BATCH, 1, 1, KEYS), dtype=bool)
    padding[1, ..., 100:] = False
    ragged = rng.random((BATCH, HEADS, QUERIES, KEYS)) < 0.3
    ragged[0, 1, :140] = False  # fully masked rows
    ragged[0, 2] = False  # a head that sees nothing
    bias = -0.1 * np.abs(np.arange(QUERIES)[:, None] - np.arange(KEYS)).astype(np.float32)
    return {
        "none": (None, False),
        "causal": (None, True),
        "padding": (padding, False),
        "padding and causal": (padding, True),
        "ragged": (ragged, False),
        "additive": (np.where(ragged, 0.0, -np.inf).astype(np.float32), False),
        "lowest": (np.where(ragged, 0.0, np.finfo(np.float32).min).astype(np.float32), False),
        "bias": (bias, False),
        "bias per key": (bias[0], True),
    }


def dense(qk, mask, is_causal):
    """Logits and visibility in float64 with the whole matrix, by torch's own rules."""
    q, k = (torch.asarray(x).double() for x in qk)
    k = k.repeat_interleave(HEADS // KV_HEADS, dim=1)
    logits = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(WIDTH)
    visible = torch.ones(logits.shape, dtype=torch.bool)
    if is_causal:
        visible &= torch.ones(QUERIES, KEYS, dtype=torch.bool).tril(diagonal=0)
    if mask is not None:
        mask = torch.asarray(mask)
        visible &= mask if mask.dtype == torch.bool else mask > -1e4
        logits = logits if mask.dtype == torch.bool else logits + mask
    return logits.masked_fill(~visible, -torch.inf), visible


COMPILED = ("padding and causal", "ragged", "bias per key")  # one of each kind: jax compiles each anew


@pytest.mark.parametrize(
    ("framework", "case"), [(f, case) for f in FRAMEWORKS for case in (COMPILED if f == "jax" else masks())]
)
def test_masks_against_the_whole_matrix(qk, framework, case):
    mask, is_causal = masks()[case]
    logits, visible = dense(qk, mask, is_causal)
    count = visible.sum(-1)
    rows = torch.special.entr(logits.softmax(-1)).sum(-1) / count.log()
    rows[count < 2] = torch.nan
    spreads = torch.empty(rows.shape)
    for index in np.ndindex(*rows.shape):
        seen = logits[index][visible[index]]
        spreads[index] = seen.std(correction=0) / math.sqrt(2 * math.log(len(seen))) if len(seen) > 1 else torch.nan
    make = FRAMEWORKS[framework]
    arguments = [make(x) for x in qk]
    options = {"mask": None if mask is None else make(mask), "is_causal": is_causal}
    compiled = jax.jit if framework == "jax" else lambda function, **_: function
    measured = to_host(compiled(attention_entropy_qk, static_argnames="is_causal")(*arguments, **options))
    np.testing.assert_allclose(measured, rows.nanmean(-1), atol=3e-6)
    assert np.isnan(measured[0, 2]) == (case in ("ragged", "additive", "lowest"))
    spread = to_host(compiled(attention_logit_scale, static_argnames="is_causal")(*arguments, **options))
    np.testing.assert_allclose(spread, spreads.nanmean(-1), atol=3e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_as_exact_as_their_inputs(qk, dtype):
    q, k = (torch.asarray(x).to(dtype) for x in qk)
    for measure in (attention_entropy_qk, attention_logit_scale):
        np.testing.assert_allclose(
            measure(q, k, is_causal=True), measure(q.double(), k.double(), is_causal=True), atol=3e-6
        )


@pytest.mark.parametrize("is_causal", [False, True])
def test_is_the_identity_on_fused_attention(qk, is_causal):
    """H = lse - scale q . SDPA(q, k, v=k): what a fused kernel gives, with the lse that SDPA does not return."""
    q, k = (torch.asarray(x) for x in qk)
    k = k.repeat_interleave(HEADS // KV_HEADS, dim=1)
    logits, visible = dense(qk, None, is_causal)
    expected = F.scaled_dot_product_attention(q, k, k, is_causal=is_causal)
    rows = logits.logsumexp(-1) - (q * expected).sum(-1) / math.sqrt(WIDTH)
    count = visible.sum(-1)
    rows = torch.where(count > 1, rows / count.log(), torch.nan)
    np.testing.assert_allclose(attention_entropy_qk(q, k, is_causal=is_causal), rows.nanmean(-1), atol=3e-6)


def test_agrees_with_the_weights(qk):
    logits, visible = dense(qk, None, True)
    np.testing.assert_allclose(
        attention_entropy_qk(*qk, is_causal=True), attention_entropy(logits.softmax(-1), visible=visible), atol=3e-6
    )


def test_scale_is_a_temperature(qk):
    q, k = qk
    np.testing.assert_allclose(attention_entropy_qk(q, k, scale=0.0), 1.0)
    assert np.all(attention_entropy_qk(q, k, scale=100.0) < 0.01)
    np.testing.assert_allclose(
        attention_logit_scale(q, k, scale=-2.0), attention_logit_scale(2 * q, k, scale=1.0), 1e-5
    )


def test_small_spread_and_entropy_agree():
    """Well below condensation the entropy is 1 - ratio^2, with the Gaussian expansion of the entropy."""
    rng = np.random.default_rng(0)
    q, k = 0.5 * rng.normal(size=(1, 64, 64)), rng.normal(size=(1, 256, 64))
    ratio = attention_logit_scale(q, k)
    np.testing.assert_allclose(attention_entropy_qk(q, k), 1 - ratio**2, atol=2e-3)
    assert 0.1 < ratio < 0.2


def test_sampled_rows_are_evenly_spaced(qk):
    q, k = qk
    np.testing.assert_allclose(attention_entropy_qk(q, k, rows=30), attention_entropy_qk(q[..., 2::5, :], k), rtol=1e-6)
    np.testing.assert_allclose(attention_entropy_qk(q, k, rows=10**6), attention_entropy_qk(q, k))
    np.testing.assert_allclose(
        attention_logit_scale(q, k, rows=30), attention_logit_scale(q[..., 2::5, :], k), rtol=1e-6
    )


def test_standard_error_is_that_of_a_sample(qk):
    q, k = qk
    full = attention_entropy_qk_estimate(q, k, rows=QUERIES)
    np.testing.assert_allclose(full.standard_error, 0)
    np.testing.assert_allclose(full.mean, attention_entropy_qk(q, k))
    assert np.all(np.isnan(attention_entropy_qk_estimate(q, k, rows=1).standard_error))
    rng = np.random.default_rng(2)
    q = rng.normal(size=(400, 1, 96, WIDTH)).astype(np.float32)  # 400 heads of independent rows
    k = 2 * rng.normal(size=(400, 1, 64, WIDTH)).astype(np.float32)
    estimate = attention_entropy_qk_estimate(q, k, rows=32)
    z = (estimate.mean - attention_entropy_qk(q, k)) / estimate.standard_error
    assert 0.9 < z.std() < 1.15 and abs(z.mean()) < 0.2


def test_standard_error_leaves_undefined_rows_out(qk):
    q, k = (torch.asarray(x) for x in qk)
    mask = torch.ones(QUERIES, KEYS, dtype=torch.bool)
    mask[::2] = False
    estimate = attention_entropy_qk_estimate(q, k, rows=QUERIES, mask=mask)
    np.testing.assert_allclose(estimate.mean, attention_entropy_qk(q[..., 1::2, :], k), rtol=1e-5)
    assert torch.isfinite(estimate.standard_error).all()


def test_a_nan_reaches_its_own_head_only(qk):
    q, k = qk
    q[0, 1, 7, 3] = np.nan
    for measure in (attention_entropy_qk, attention_logit_scale):
        for is_causal in (False, True):
            nans = np.isnan(measure(q, k, is_causal=is_causal))
            assert nans[0, 1] and nans.sum() == 1


def test_hidden_nans_do_not_matter(qk):
    q, k = qk
    mask = np.ones((1, KEYS), dtype=bool)
    mask[:, 100:] = False
    expected = attention_entropy_qk(q, k, mask=mask)
    k[..., 100:, :] = np.nan
    np.testing.assert_array_equal(attention_entropy_qk(q, k, mask=mask), expected)


def test_memory_is_linear_in_the_keys():
    def peak(n, measure):
        q = np.random.default_rng(0).normal(size=(1, n, 16)).astype(np.float32)
        tracemalloc.start()
        measure(q, q, is_causal=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    for measure in (attention_entropy_qk, attention_logit_scale):
        small, large = peak(1024, measure), peak(4096, measure)
        assert large < 4096 * 4096 * 4 / 4  # the matrix alone, without its softmax, is four times that
        assert large < 5 * small  # 4 if linear, 16 if quadratic
