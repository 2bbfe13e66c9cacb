"""Guards whose numbers are lost or saved: judged by survival, as the metric that decides is."""

import math

import numpy as np
import pytest
from scipy import stats

from pitprop.trials.guards import guard

NAN = math.nan
LIVES = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 0.98]


def judged(control, treated, text="loss=lower", **options):
    results = {
        (arm, seed): {"status": "done", "metrics": {"loss": value}}
        for arm, values in (("control", control), ("a", treated))
        for seed, value in enumerate(values)
    }
    (found,) = guard(["a"], [text], range(len(control)), results, **options)
    return found


@pytest.mark.parametrize("text", ["loss=lower", "loss=higher", "loss"])
def test_to_lose_the_number_is_worse_in_any_direction(text):
    lost = judged(LIVES, [NAN] * 8, text)
    assert lost.verdict == "worse" and all(map(math.isnan, (lost.effect, lost.low, lost.high))) and not lost.moved
    assert judged([NAN] * 8, LIVES, text).verdict == "better"
    assert judged(LIVES[:3], [NAN] * 3, text).verdict == "inconclusive", "three of three are not enough at 95 %"


def test_a_guard_that_is_lower_where_it_lives_is_not_better_where_it_dies():
    lower = [x - 0.5 + 0.02 * i for i, x in enumerate(LIVES)]
    assert judged(LIVES, lower).verdict == "better" and judged(LIVES, lower, "loss").verdict == "changed"
    dead = judged(LIVES, [NAN, *lower[1:]])
    assert dead.verdict == "inconclusive" and dead.high < 0 and dead.moved


def test_a_guard_without_a_direction_says_no_more_than_one_with_either():
    """Both sides of its interval, beside survival, would err 1.5 times as often as it may."""
    rng, said = np.random.default_rng(0), []
    for _ in range(300):
        runs = rng.normal(0, 1, (2, 8)) + rng.choice([-3, 0, 3], (2, 1))
        runs[rng.random((2, 8)) < rng.choice([0, 0.2, 0.6], (2, 1))] = NAN
        both = [judged(*runs, text).verdict != "inconclusive" for text in ("loss=lower", "loss=higher", "loss")]
        said.append(both)
        assert both[2] == (both[0] and both[1])
    assert {tuple(s) for s in said} >= {(True, True, True), (True, False, False), (False, True, False)}


@pytest.mark.slow
def test_guards_without_a_direction_whose_runs_die_err_at_most_5_percent():
    """4000 null guards of 32 seeds, half of whose runs die: at 5 % each."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(4000):
        runs = rng.normal(0, 1, (2, 32))
        runs[rng.random((2, 32)) < 0.5] = NAN
        wrong += judged(*runs, "loss").verdict != "inconclusive"
    assert wrong <= stats.binom.ppf(0.999, 4000, 0.05)


def test_two_guards_that_are_the_same_say_nothing():
    same = judged(LIVES, LIVES)
    assert (same.low, same.high, same.verdict) == (0, 0, "inconclusive")


@pytest.mark.parametrize("stopped", [None, {"a": 5}])
@pytest.mark.parametrize("pairs", [0, 1])
def test_an_interval_of_too_few_pairs_is_undefined_in_one_way(stopped, pairs):
    found = judged(LIVES, [*LIVES[:pairs], *[NAN] * (8 - pairs)], stopped=stopped)
    assert all(map(math.isnan, (found.effect, found.low, found.high)))


@pytest.mark.parametrize(("alpha", "verdict"), [(0.05, "worse"), (0.0001, "inconclusive")])
def test_a_guard_of_an_arm_that_stopped_is_judged_by_what_may_be_looked_at_after_every_seed(alpha, verdict):
    """Five of five: 3.5^5 = 525, where 2 / alpha is 40 and 20 000."""
    assert judged(LIVES, [NAN] * 8, stopped={"a": 5}, alpha=alpha).verdict == verdict
