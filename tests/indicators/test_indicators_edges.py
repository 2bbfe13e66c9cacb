"""The edges: constant, empty, single, NaN, infinite, huge and tiny input, and what each refuses."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from indicator_twins import FRAMEWORKS, TWINS

from pitprop import PitpropError
from pitprop import indicators as ind
from pitprop._array import to_host
from pitprop.indicators import by_name

NAN = float("nan")
single = partial(np.array, dtype=np.float32)
ROWS, LONG = (4, 3), (2, 5, 8)

# name -> (shapes, value for arguments that are all one half, value for ... without entries, value for one member)
EDGES = {
    "activation_peak": ([ROWS], 1.0, [(3, 0)], NAN, [(1, 1)], 1.0),
    "attention_logit_peak": ([ROWS], 0.0, [(3, 0)], NAN, [(4, 1)], NAN),
    "attention_sink": ([ROWS], 0.0, [(3, 0)], NAN, [(4, 1)], NAN),
    "certain_share": ([ROWS], 0.0, [(0, 3)], NAN, [(4, 1)], 1.0),
    "class_divergence": ([ROWS, (4,)], NAN, [(0, 3), (0,)], NAN, [(1, 1), (1,)], NAN),  # a half is no class
    "class_entropy_ratio": ([ROWS, (4,)], NAN, [(0, 3), (0,)], NAN, [(1, 1), (1,)], NAN),
    "class_loss_ratio": ([ROWS, (4,)], NAN, [(0, 3), (0,)], NAN, [(1, 1), (1,)], NAN),
    "code_usage": ([(4,)], 0.0, [(0,)], NAN, [(1,)], 0.0),  # likewise
    "embedding_rank": ([ROWS], NAN, [(0, 3)], NAN, [(1, 3)], NAN),
    "embedding_spread": ([ROWS], 0.0, [(0, 3)], NAN, [(1, 3)], NAN),
    "gradient_cosine": ([(4,), (4,)], 1.0, [(0,), (0,)], NAN, [(1,), (1,)], 1.0),
    "head_redundancy": ([LONG], NAN, [(2, 5, 0)], NAN, [(1, 5, 8)], NAN),
    "latent_active_share": ([ROWS], 0.0, [(0, 3)], NAN, [(1, 3)], NAN),
    "latent_kl": (
        [ROWS, ROWS],
        1.5 * (0.25 + math.exp(0.5) - 1.5),
        [(0, 3), (0, 3)],
        NAN,
        [(1, 1), (1, 1)],
        0.5 * (0.25 + math.exp(0.5) - 1.5),
    ),
    "load_chi_squared": ([ROWS], 0.0, [(0, 3)], NAN, [(4, 1)], NAN),
    "load_entropy": ([ROWS], 1.0, [(0, 3)], NAN, [(4, 1)], NAN),
    "logit_rounding": ([ROWS], (0.5 + math.log(3)) * 2.0**-24, [(0, 3)], NAN, [(1, 1)], 0.5 * 2.0**-24),
    "loss_weight_alignment": ([(4,), (4,), (4,)], NAN, [(0,), (0,), (0,)], NAN, [(1,), (1,), (1,)], NAN),
    "teacher_entropy": ([ROWS], 1.0, [(0, 3)], NAN, [(4, 1)], NAN),
    "teacher_information": ([ROWS], 0.0, [(0, 3)], NAN, [(1, 3)], NAN),
    "adapter_ratio": ([(3, 2), (2, 3), ()], 3.0, [(3, 0), (0, 3), ()], NAN, [(1, 1), (1, 1), ()], 0.5),
    "attention_entropy": ([ROWS], 1.0, [(3, 0)], NAN, [(4, 1)], NAN),
    "attention_entropy_qk": ([LONG, LONG], 1.0, [(2, 5, 8), (2, 0, 8)], NAN, [(2, 5, 8), (2, 1, 8)], NAN),
    "attention_logit_scale": ([LONG, LONG], 0.0, [(2, 0, 8), (2, 5, 8)], NAN, [(2, 5, 8), (2, 1, 8)], NAN),
    "branch_ratio": ([ROWS, ROWS], 1.0, [(0, 3), (0, 3)], NAN, [(1, 3), (1, 3)], 1.0),
    "dead_share": ([ROWS], 0.0, [(0, 3)], NAN, [(1, 3)], 0.0),
    "displacement_ratio": ([ROWS], 5.0, [(0,)], NAN, [(1,)], 5.0),
    "effective_rank": ([ROWS], 1.0, [(0, 3)], NAN, [(1, 3)], 1.0),
    "gradient_norm": ([(4,), (5,)], 1.5, [], NAN, [(1,)], 0.5),
    "gradient_share": ([(4,)], 0.25, [(2, 0)], NAN, [(1,)], 1.0),
    "lost_update_share": ([ROWS, ROWS, ROWS], 1.0, [(0,), (0,), (0,)], NAN, [(1,), (1,), (1,)], 1.0),
    "momentum_alignment": ([ROWS, ROWS], 1.0, [(0,), (0,)], NAN, [(1,), (1,)], 1.0),
    "output_spread": ([ROWS, ROWS], NAN, [(0, 3), (0, 3)], NAN, [(1, 3), (1, 3)], NAN),
    "output_uniqueness": ([ROWS], 0.25, [(0, 3)], NAN, [(1, 3)], NAN),
    "rotation_ratio": ([ROWS, ROWS], 0.0, [(0,), (0,)], NAN, [(1,), (1,)], 0.0),
    "saturated_share": ([ROWS], 0.0, [(0,)], NAN, [(1,)], 0.0),
    "second_moment_ratio": ([ROWS, ROWS], math.sqrt(0.5), [(0,), (0,)], NAN, [(1,), (1,)], math.sqrt(0.5)),
    "shrinkage": ([ROWS, ROWS], -1.0, [(0,), (0,)], NAN, [(1,), (1,)], -1.0),
    "simplex_concentration": ([(4,)], 0.0, [(0,)], NAN, [(1,)], NAN),
    "stable_rank": ([ROWS], 1.0, [(3, 0)], NAN, [(1, 3)], 1.0),
    "starved_share": ([ROWS], 0.0, [(0,)], NAN, [(1,)], 0.0),
    "step_scale": ([ROWS], 50.0, [(0,)], NAN, [(1,)], 50.0),
    "stream_growth": ([(4,)], 0.5, [(0,)], NAN, [(1,)], 1.0),
    "token_cosine": ([ROWS], 1.0, [(0, 3)], NAN, [(1, 3)], NAN),
    "total_variation": ([(4,), (4,)], 0.0, [(0,), (0,)], NAN, [(1,), (1,)], 0.0),
    "update_ratio": ([ROWS, ROWS], 1.0, [(0,), (0,)], NAN, [(1,), (1,)], 1.0),
    "wasserstein_distance": ([(4,), (5,)], 0.0, [(4,), (0,)], NAN, [(1,), (1,)], 0.0),
    "zero_gradient_share": ([(4,), (4,)], 0.0, [(0,), (0,)], NAN, [(1,), (1,)], 0.0),
}


def halves(name, framework, shapes):
    arrays = [FRAMEWORKS[framework](np.full(shape, 0.5, dtype=np.float32)) for shape in shapes]
    return to_host(TWINS[name].call(by_name(name).function, arrays))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", EDGES)
def test_constant_empty_and_single_input(name, framework):
    constant, at_constant, empty, at_empty, single, at_single = EDGES[name]
    np.testing.assert_allclose(halves(name, framework, constant), at_constant, atol=1e-6)
    np.testing.assert_allclose(halves(name, framework, empty), at_empty)
    np.testing.assert_allclose(halves(name, framework, single), at_single, atol=1e-6)


def test_every_indicator_has_its_edges():
    assert set(EDGES) == set(TWINS)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", TWINS)
def test_one_nan_in_any_argument_makes_the_result_nan(name, framework):
    twin = TWINS[name]
    for i in range(len(twin.arguments(np.random.default_rng(0)))):
        arrays = [x.astype(np.float32) for x in twin.arguments(np.random.default_rng(0))]
        arrays[i][..., *(0,) * min(arrays[i].ndim, 2)] = NAN
        value = to_host(twin.call(by_name(name).function, [FRAMEWORKS[framework](x) for x in arrays]))
        assert np.all(np.isnan(value)), (i, value)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
@pytest.mark.parametrize("name", [i.name for i in ind.INDICATORS if "scale" in i.invariances and i.cost != "C0"])
def test_float32_neither_overflows_nor_underflows(name, factor):
    twin = TWINS[name]
    arrays = [x.astype(np.float32) for x in twin.arguments(np.random.default_rng(0))]
    function = by_name(name).function
    scaled = twin.call(function, [x * np.float32(factor) for x in arrays])
    np.testing.assert_allclose(scaled, twin.call(function, arrays), rtol=1e-5)


def test_gradient_norm():
    assert math.isnan(ind.gradient_norm([None]))
    np.testing.assert_allclose(ind.gradient_norm([single([3e30]), None, single([4e30])]), 5e30, rtol=1e-6)
    np.testing.assert_allclose(ind.gradient_norm([single([3e-30, 4e-30])]), 5e-30, rtol=1e-6)
    assert ind.gradient_norm([np.zeros(3), np.zeros(0)]) == 0
    assert ind.gradient_norm([np.array([1.0, np.inf])]) == np.inf
    mixed = [torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64)]
    np.testing.assert_allclose(ind.gradient_norm(mixed), 2)


def test_nothing_to_compare_with_is_nan():
    zero, one = np.zeros((2, 3)), np.ones((2, 3))
    assert np.all(np.isnan(ind.gradient_share(zero)))
    for measure in (ind.branch_ratio, ind.update_ratio, ind.output_spread):
        assert math.isnan(measure(one, zero))
    for measure in (ind.effective_rank, ind.stable_rank, ind.token_cosine, ind.attention_entropy):
        assert math.isnan(measure(zero))
    assert np.all(np.isnan(ind.simplex_concentration(np.array([[0.0, 0.0], [1.5, -0.5]]))))
    assert np.all(np.isnan(ind.total_variation(one, zero)))


def test_what_is_undefined_is_left_out():
    tokens = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(ind.token_cosine(tokens), math.sqrt(0.5))
    stream = np.array([[2.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(ind.branch_ratio(np.ones((2, 2)), stream), math.sqrt(2) / 2)


def test_attention_entropy_counts_the_visible_keys():
    weights = np.array([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    visible = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    np.testing.assert_allclose(ind.attention_entropy(weights, visible=visible, per_row=True), [1.0, NAN, NAN])
    np.testing.assert_allclose(ind.attention_entropy(weights, visible=visible), 1.0)
    np.testing.assert_allclose(ind.attention_entropy(weights, per_row=True), [0.5, 0.0, NAN])
    np.testing.assert_allclose(ind.attention_entropy(weights), 0.25)
    # A softmax over nothing but -inf is a row of NaN: hidden by the mask, it is left out; unexplained, it speaks.
    weights[2] = NAN
    np.testing.assert_allclose(ind.attention_entropy(weights, visible=visible), 1.0)
    assert math.isnan(ind.attention_entropy(weights))


def test_rank_centring_and_rows():
    offset = np.random.default_rng(0).normal(size=(32, 4)) + 100
    assert ind.effective_rank(offset) < 1.2
    assert ind.effective_rank(offset, centre=True) > 3.5
    assert math.isnan(ind.effective_rank(np.ones((4, 3)), centre=True))
    np.testing.assert_allclose(ind.stable_rank(offset, rows=8), ind.stable_rank(offset[2::4]))


def test_output_uniqueness_looks_across_the_batch():
    rng = np.random.default_rng(0)
    constant = np.tile(rng.normal(size=(1, 1232)), (200, 1)).astype(np.float32)
    assert ind.output_uniqueness(constant) == pytest.approx(1 / 200)
    noise = rng.normal(size=constant.shape).astype(np.float32)
    assert ind.output_uniqueness(constant + 1e-3 * noise) == pytest.approx(1 / 200)
    assert ind.output_uniqueness(constant + 0.1 * noise) == 1
    assert ind.output_uniqueness(constant + 1e-3 * noise, tolerance=1e-4) == 1
    images = np.repeat(rng.normal(size=(10, 3, 4, 4)), 2, axis=0)
    assert ind.output_uniqueness(images) == 0.5
    assert ind.output_uniqueness(np.repeat(rng.normal(size=(1000, 4)), 5, axis=0)) == 1  # 256 rows, 19 apart
    assert ind.output_uniqueness(np.zeros((4, 3))) == 0.25


def test_output_spread_of_a_constant_model_is_zero():
    targets = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    assert ind.output_spread(np.tile(targets[:1], (50, 1)), targets) == 0
    np.testing.assert_allclose(ind.output_spread(0.3 * targets + 7, targets), 0.3, rtol=1e-4)


def test_saturated_share_at_a_healthy_start():
    z = np.random.default_rng(0).normal(size=1_000_000)
    expected = scipy.stats.norm.sf(math.atanh(math.sqrt(0.99))) * 2
    assert ind.saturated_share(np.tanh(z), "tanh") == pytest.approx(expected, rel=0.1) == pytest.approx(0.0028, rel=0.1)
    sigmoid = 1 / (1 + np.exp(-np.array([-7.0, -5.9, 0.0, 5.9, 7.0])))
    np.testing.assert_allclose(ind.saturated_share(sigmoid, "sigmoid"), 0.4)
    assert math.isnan(ind.saturated_share(z, "tanh"))  # not an output of tanh


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_wasserstein_distance_is_scipys(a, b):
    measured = ind.wasserstein_distance(np.array(a), np.array(b))
    assert measured == pytest.approx(scipy.stats.wasserstein_distance(a, b), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (lambda: ind.token_cosine(np.ones(5)), r"`token_cosine` got `tokens` of shape \(5,\)\n.*`token width`"),
        (lambda: ind.effective_rank(np.ones(5)), "`effective_rank` got"),
        (lambda: ind.attention_entropy(np.ones(5)), "last axes `query key`"),
        (lambda: ind.output_uniqueness(np.ones(())), "last axes `sample`"),
        (lambda: ind.output_spread(np.ones((4, 3)), np.ones(4)), r"`targets` of shape \(4,\)\n.*entry by entry"),
        (lambda: ind.update_ratio(np.ones(3), np.ones(4)), "entry by entry"),
        (lambda: ind.branch_ratio(np.ones((3, 2)), np.ones((3, 1))), "entry by entry"),
        (lambda: by_name("saturated_share").function(np.ones(3), "tanhh"), "did you mean `tanh`"),
        (lambda: ind.attention_entropy_qk(np.ones((4, 8)), np.ones((4, 8))), "last axes `head query width`"),
        (lambda: ind.attention_entropy_qk(np.ones((4, 5, 8)), np.ones((3, 5, 8))), "multiple of the key heads"),
        (lambda: ind.attention_logit_scale(np.ones((4, 5, 8)), np.ones((4, 5, 7))), "width must agree"),
        (
            lambda: ind.attention_entropy_qk(np.ones((4, 5, 8)), np.ones((4, 6, 8)), mask=np.ones((5, 5), bool)),
            r"a mask of shape \(5, 5\) and type bool for 5 queries and 6 keys\nDo: .*True = attend",
        ),
        (
            lambda: ind.attention_logit_scale(np.ones((4, 5, 8)), np.ones((4, 6, 8)), mask=np.ones((9, 6), bool)),
            r"a mask of shape \(9, 6\)",
        ),
        (
            lambda: ind.attention_entropy_qk(np.ones((4, 5, 8)), np.ones((4, 6, 8)), mask=np.ones((5, 6), int)),
            r"type int64 .*\nWhether 1 shows a key",
        ),
    ],
)
def test_bad_input_is_explained(call, seen):
    with pytest.raises(PitpropError, match=seen):
        call()
