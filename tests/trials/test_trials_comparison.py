"""The comparison against scipy's own answers, its verdicts, and its honesty about what is missing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pitprop.trials.comparison import compare, each_of, sign_flip_p, verdict
from pitprop.trials.interval import Effect, bounds, interval, seeds_needed
from pitprop.trials.survival import survival

RNG = np.random.default_rng(0)
CONTROL = RNG.normal(size=6)
TREATED = CONTROL + RNG.normal(1, 0.3, size=6)


def make(control, treated, **options):
    return compare(control, treated, arm="a", seeds=range(len(control)), metric="m", **options)


def test_effect_and_interval_are_those_of_the_paired_t_test_where_nothing_is_skewed():
    even = CONTROL + np.array([1.0, 1.2, 1.5, 1.7, 2.0, 2.2]) - 0.2  # symmetric about its mean
    got = make(CONTROL, even, confidence=0.9)
    expected = stats.ttest_rel(even, CONTROL).confidence_interval(0.9)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    got = make(CONTROL, TREATED)
    assert got.effect == pytest.approx((TREATED - CONTROL).mean())
    assert got.seeds == (0, 1, 2, 3, 4, 5) and len(got.control) == 6


def test_p_value_counts_all_sign_flips():
    differences = TREATED - CONTROL
    flips = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    expected = np.mean(np.abs(differences @ flips) >= abs(differences.sum()) - 1e-12)
    assert sign_flip_p(differences) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 5, 8, 12])
def test_p_value_is_never_under_its_floor(count):
    assert sign_flip_p(np.arange(1.0, count + 1)) == pytest.approx(2 / 2**count)


def test_many_seeds_are_sampled_repeatably():
    differences = RNG.normal(0.2, 1, size=20)
    assert sign_flip_p(differences) == sign_flip_p(differences)
    assert sign_flip_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.03)


def test_batches_of_a_seed_are_averaged_not_counted():
    wide = np.stack([CONTROL - 1, CONTROL + 1], axis=1)
    assert make(wide, np.stack([TREATED, TREATED], axis=1)).high == pytest.approx(make(CONTROL, TREATED).high)


@pytest.mark.parametrize(
    ("low", "high", "higher", "expected"),
    [
        (-0.1, 0.1, True, "no difference within margin"),
        (0.01, 0.2, True, "no difference within margin"),  # significant, and too small to matter
        (0.1, 0.5, True, "better"),
        (0.1, 0.5, False, "worse"),
        (-0.5, -0.1, True, "worse"),
        (-0.5, -0.1, False, "better"),
        (-0.1, 0.5, True, "inconclusive"),
        (math.nan, math.nan, True, "inconclusive"),
    ],
)
def test_verdicts(low, high, higher, expected):
    effect = Effect(mean=(low + high) / 2, low=low, high=high)
    assert verdict(effect, margin=0.2, higher_is_better=higher) == expected


def test_equal_differences_are_a_point():
    same = make(np.arange(5.0), np.arange(5.0))
    assert (same.effect, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert same.verdict == "no difference within margin"
    shifted = make(np.arange(4.0), np.arange(4.0) + 1)
    assert (shifted.low, shifted.high, shifted.verdict) == (1, 1, "better")
    assert shifted.p_value == 2 / 2**4


@pytest.mark.parametrize(("count", "confidence", "needed"), [(2, 0.95, 4), (3, 0.95, 4), (4, 0.99, 5), (5, 0.999, 6)])
def test_few_differences_that_are_alike_settle_nothing(count, confidence, needed):
    """Ties come of rounding: they show no spread, and so nothing of the chance behind them."""
    control = np.linspace(0.5, 0.9, count, dtype=np.float32)
    tied = make(control, control + np.float32(0.01), margin=0.5, confidence=confidence)
    assert tied.effect == pytest.approx(0.01, rel=1e-4) and tied.verdict == "inconclusive"
    assert math.isnan(tied.low) and math.isnan(tied.high) and tied.further_seeds == needed - count
    enough = interval(np.full(needed, 0.01), confidence)
    assert (enough.low, enough.high) == pytest.approx((0.01, 0.01))


def test_ties_are_as_significant_as_chance_lets_them_be():
    low, high = bounds(np.full((2, 5), -0.3), 1 - 4.0**-4)
    assert low == pytest.approx(-0.3) and high == pytest.approx(-0.3)
    assert np.isnan(bounds(np.full((2, 5), -0.3), 1 - 4.0**-4 / 1.01)).all()


@pytest.mark.parametrize(("confidence", "needed"), [(0.95, 5), (0.99, 7), (1 - 0.05 / 12, 8)])
def test_a_change_that_moved_nothing_may_move_the_metric_at_other_seeds(confidence, needed):
    """One that cures at half of the seeds or more is called no difference with chance 1 - `confidence` at most."""
    for count in range(2, needed):
        few = make(np.arange(count), np.arange(count), margin=0.1, confidence=confidence)
        assert few.effect == 0 and math.isnan(few.low) and few.verdict == "inconclusive"
        assert few.further_seeds == needed - count and 0.5**count > 1 - confidence
    assert make(np.arange(needed), np.arange(needed), confidence=confidence).verdict == "no difference within margin"
    assert 0.5**needed <= 1 - confidence


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_an_arm_that_cures_at_half_of_the_seeds_is_seldom_called_no_difference(count):
    """4000 trials of an arm at 95 %: with a point as the interval it is called that in 25 % of them at 2 seeds."""
    cured = np.random.default_rng(count).random((4000, count)) < 0.5
    low, high = bounds(cured.astype(float), 0.95)
    assert np.mean((low >= -0.1) & (high <= 0.1)) <= stats.binom.ppf(0.999, 4000, 0.05) / 4000


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=7, max_size=7).filter(any), min_size=2, max_size=5),
)
@settings(deadline=None, max_examples=200)
def test_chance_ties_no_oftener_than_the_bound(weights):
    """Exact, for any distribution of a metric of seven levels at each seed: both arms draw from it independently."""
    apart = [np.convolve(p, p[::-1]) / p.sum() ** 2 for p in map(np.array, weights)]
    tied = np.prod(apart, 0)
    assert tied.sum() - tied[6] <= 4.0 ** (1 - len(weights)) + 1e-12, "6 is no difference"


def test_rounded_null_differences_err_at_most_5_percent():
    """8000 comparisons each: .05 with three standard errors is .0573; without the bound it is .114 at two seeds."""
    assert max(rounded_errors(count) for count in (2, 3, 4, 5)) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 8000)


def rounded_errors(count, repeats=8000):
    """Share of null comparisons called better or worse: two arms of sd .01, rounded to .01; margin 0."""
    drawn = np.random.default_rng(count).normal(0, 0.01, (2, repeats, count)).round(2)
    low, high = bounds(drawn[1] - drawn[0])
    return float(np.mean((low > 0) | (high < 0)))


def test_seeds_without_a_number_are_left_out_and_shown():
    got = make([1.0, math.nan, 3.0, 0.0], [2.0, 5.0, 4.5, math.inf])
    assert got.effect == 1.25
    assert math.isnan(got.control[1]) and got.treated[3] == math.inf
    one = make([1.0, math.nan], [2.0, 5.0])
    assert one.verdict == "inconclusive" and math.isnan(one.effect) and math.isnan(one.p_value)


@pytest.mark.parametrize(
    ("control", "treated", "expected"),
    [
        ([math.nan] * 5, [1.0] * 5, "better"),
        ([math.nan] * 3, [1.0] * 3, "inconclusive"),  # p = .016
        ([math.nan] * 4, [1.0] * 4, "better"),  # p = .004
        ([1.0] * 5, [math.inf] * 5, "worse"),
        ([math.nan] * 5, [math.nan] * 5, "inconclusive"),
        ([0.0, 0.1, math.nan, 0.0], [1.0, 1.1, 1.0, 1.1], "better"),
        ([0.0, 0.1, 0.0, 0.0], [1.0, 1.1, 1.1, math.nan], "inconclusive"),  # better where it lives
        ([0.0, 0.1, 0.0, math.nan], [0.0, 0.1, 0.0, 1.0], "inconclusive"),  # it does make a difference
    ],
)
def test_survival_comes_before_the_effect(control, treated, expected):
    got = make(control, treated, margin=0.05)
    assert got.verdict == expected
    assert sum(map(math.isfinite, got.control)) == survival(control, treated).control, "NaN stays NaN"


def test_each_of_several_intervals_pays_for_all_of_them():
    assert (each_of(1), each_of(0)) == pytest.approx((0.95, 0.95))
    assert each_of(4, 0.96) == pytest.approx(0.99)


def test_intervals_of_arms_with_real_effects_hold_together():
    """Twelve effects of 10 sd, 64 seeds, 2000 trials: at Holm's levels some interval misses in 14 % of them."""
    effects = np.random.default_rng(0).normal(10, 1, (2000, 12, 64))
    low, high = bounds(effects, each_of(12))
    missed = ((low > 10) | (high < 10)).any(-1).mean()
    assert missed <= stats.binom.ppf(0.999, 2000, 0.05) / 2000


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0, 2))
def test_seeds_needed_settles(values, margin):
    differences = np.array(values)
    count = seeds_needed(differences, margin=margin)
    mean, spread = differences.mean(), differences.std(ddof=1)
    if count is None:
        return
    half = stats.t.ppf(0.975, count - 1) * spread / math.sqrt(count)
    assert half < abs(mean) or abs(mean) + half < margin or half == pytest.approx(max(abs(mean), margin - abs(mean)))


def test_seeds_needed_knows_its_limits():
    assert seeds_needed(np.array([1.0]), margin=0) is None
    assert seeds_needed(np.array([1.0, -1.0]), margin=0) is None
    assert seeds_needed(np.array([1.0, 0.4, 1.6]), margin=0) == 4


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.floats(0, 10))
def test_swapping_the_arms_mirrors_everything(values, margin):
    control = np.zeros(len(values))
    one, other = make(control, values, margin=margin), make(values, control, margin=margin)
    assert one.effect == pytest.approx(-other.effect) and one.low == pytest.approx(-other.high, nan_ok=True)
    assert one.p_value == pytest.approx(other.p_value)
    mirror = {"better": "worse", "worse": "better"}
    assert other.verdict == mirror.get(one.verdict, one.verdict)


def test_interval_needs_two():
    assert math.isnan(interval(np.array([1.0])).low)
