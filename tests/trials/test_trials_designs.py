"""Designs with known answers: what each run tells, what it cannot tell apart, and that the control is a run."""

import itertools
import math

import numpy as np
import pytest

from pitprop import PitpropError
from pitprop.trials import designs
from pitprop.trials.interventions import Ablate, ClipGradient, Knob, Scale

CHANGES = tuple(Ablate(letter) for letter in "ABCDEFGH")
RNG = np.random.default_rng(0)


def design(k, resolution=None):
    return designs.factorial(CHANGES[:k], resolution)


def response(of, *terms):
    """Outcome of each run: the sum of the terms `(size, factors)` whose factors are all changed."""
    levels = np.array(of.levels)
    return sum((size * levels[:, list(factors)].all(1) for size, factors in terms), np.zeros(len(levels)))


def named(found):
    """Effects under short names: A, B, AxB."""
    return {c.arm.replace("output of ", "").replace(" multiplied by 0", "").replace(" ", ""): c for c in found}


def estimate(of, outcomes, **options):
    outcomes = np.atleast_2d(np.asarray(outcomes, float).T).T
    return named(designs.effects(of, outcomes, seeds=range(outcomes.shape[1]), metric="m", **options))


@pytest.mark.parametrize(
    ("k", "resolution", "runs", "expected"),
    [
        (2, None, 4, math.inf),
        (5, None, 32, math.inf),
        (3, 4, 8, math.inf),
        (4, 4, 8, 4),
        (4, 5, 16, math.inf),
        (5, 4, 16, 5),
        (5, 5, 16, 5),
        (6, 4, 16, 4),
        (6, 5, 32, 6),
        (7, 4, 16, 4),
        (7, 5, 64, 7),
        (8, 4, 16, 4),
        (8, 5, 64, 5),
    ],
)
def test_sizes_resolutions_and_balance(k, resolution, runs, expected):
    of = design(k, resolution)
    assert len(of.levels) == len(set(of.levels)) == runs
    assert of.resolution == expected
    assert not any(of.levels[0]), "the control is the first run"
    assert (of.signs.sum(0) == 0).all(), "every change is made in half of the runs"
    assert (of.signs.T @ of.signs == runs * np.eye(k)).all(), "no two changes are confounded"
    assert len(of.arms) == runs - 1 and of.runs[0] == "control"
    for arm, row in zip(of.arms, of.levels[1:], strict=True):
        assert arm.interventions == tuple(itertools.compress(of.changes, row))


@pytest.mark.parametrize(("k", "resolution"), [(3, None), (5, 5), (6, 5), (8, 5)])
def test_effects_are_exact_where_nothing_is_aliased(k, resolution):
    of = design(k, resolution)
    found = estimate(of, np.stack([response(of, (1.0, [0]), (-2.0, [1]), (4.0, [0, 1]))] * 2, 1))
    assert len(found) == k + k * (k - 1) // 2
    # Of 4 when A and B are both made: 2 belong to each of them on average, and 2 to their interaction.
    assert found["A"].effect == pytest.approx(3) and found["B"].effect == pytest.approx(0)
    assert found["AxB"].effect == pytest.approx(2)
    rest = {name: c.effect for name, c in found.items() if name not in ("A", "B", "AxB")}
    assert list(rest.values()) == pytest.approx([0] * len(rest))
    assert not any("alias" in c.changes for c in found.values())


def test_resolution_four_says_what_it_cannot_tell_apart():
    of = design(4, 4)
    found = estimate(of, np.stack([response(of, (8.0, [2, 3]))] * 2, 1))
    assert set(found) == {"A", "B", "C", "D", "AxB", "AxC", "AxD"}
    assert found["AxB"].effect == pytest.approx(4), "C x D comes out under its alias"
    assert found["AxB"].changes.count(" or ") == 1 and "aliased" in found["AxB"].changes
    assert found["A"].effect == pytest.approx(0) and found["C"].effect == pytest.approx(4)
    assert "mixed with each other" in of.describe() and "resolution 4" in of.describe()
    assert "every effect is told apart" in design(3).describe()


def test_two_changes_guilty_only_together_are_found_in_noise():
    of = design(3)
    truth = response(of, (1.0, [0, 2]))[:, None]
    found = estimate(of, truth + RNG.normal(0, 0.05, (8, 8)), margin=0.1)
    assert {name for name, c in found.items() if c.verdict == "better"} == {"A", "C", "AxC"}
    assert found["B"].verdict == found["AxB"].verdict == "no difference within margin"
    c = found["AxC"]
    assert c.low < 0.5 < c.high and c.confidence >= 0.95 and len(c.control) == len(c.treated) == 8


@pytest.mark.slow
def test_null_factorials_err_at_most_as_promised():
    """Six effects that are all 0, together at 95 %: wrong in about 5 % of 400 trials (standard error 1.1 %)."""
    of = design(3)
    wrong = 0
    for _ in range(400):
        found = estimate(of, RNG.normal(size=(8, 5)))
        wrong += any(c.verdict != "inconclusive" for c in found.values())
    assert wrong / 400 < 0.05 + 3 * 0.011


def test_a_seed_with_a_missing_run_is_left_out():
    of = design(2)
    outcomes = np.stack([response(of, (1.0, [0]))] * 4, 1)
    outcomes[3, 0], outcomes[1, 3] = np.nan, np.inf
    c = estimate(of, outcomes)["B"]
    assert [math.isnan(x) for x in c.control] == [False, False, False, True]
    assert [math.isnan(x) for x in c.treated] == [True, False, False, False]
    assert c.effect == pytest.approx(0) and "where" not in c.changes
    assert estimate(of, outcomes[:, :2])["A"].verdict == "inconclusive"


def noisy(of, *terms, seeds=8):
    return response(of, *terms)[:, None] + np.random.default_rng(1).normal(0, 0.05, (len(of.levels), seeds))


@pytest.mark.parametrize("dying", [1.0, 0.7])
def test_a_change_that_kills_is_worse_and_leaves_the_others_their_effects(dying):
    of = design(3)
    outcomes = noisy(of, (1.0, [1]), (0.5, [1, 2]))
    kills = np.array(of.levels)[:, :1] & (np.random.default_rng(0).random(outcomes.shape) < dying)
    found = estimate(of, np.where(kills, np.nan, outcomes), margin=0.1)
    assert found["A"].verdict == "worse", "it loses its runs"
    for name, effect in {"B": 1.25, "C": 0.25, "BxC": 0.25}.items():
        assert found[name].effect == pytest.approx(effect, abs=0.05) and found[name].verdict == "better"
        assert found[name].changes.endswith("(where output of A multiplied by 0 is not made)")
        assert len(found[name].seeds) == 8 and all(map(math.isfinite, found[name].treated))
    for name in ("AxB", "AxC"):
        assert "undefined where runs die with and without" in found[name].changes
        assert found[name].verdict == "inconclusive"


def test_a_change_without_which_runs_die_is_better_and_leaves_the_others_their_effects():
    of = design(2)
    outcomes = np.where(np.array(of.levels)[:, :1], noisy(of, (1.0, [1])), np.nan)
    found = estimate(of, outcomes, margin=0.1)
    assert (found["A"].verdict, found["B"].verdict) == ("better", "better")
    assert found["B"].changes.endswith("(where output of A multiplied by 0 is made)")


def test_two_changes_that_kill_only_together_are_worse_only_together():
    of = design(3)
    both = np.array(of.levels)[:, :2].all(1, keepdims=True)
    found = estimate(of, np.where(both, np.nan, noisy(of, (1.0, [2]))), margin=0.1)
    assert found["AxB"].verdict == "worse"
    assert found["C"].verdict == "better" and found["C"].effect == pytest.approx(1, abs=0.05)
    assert found["B"].verdict == "no difference within margin", "where A is not made"


def test_a_fraction_says_what_its_living_half_cannot_tell_apart():
    of = design(4, 4)
    kills = np.array(of.levels)[:, :1]
    found = estimate(of, np.where(kills, np.nan, noisy(of, (4.0, [2, 3]))), margin=0.1)
    assert set(found) == {"A", "B", "C", "D", "AxB", "AxC", "AxD"}
    assert "or minus output of C multiplied by 0 x output of D multiplied by 0" in found["B"].changes
    # 4 where C and D are made is 1 to each of C, D and C x D in half of the runs; B goes with minus C x D.
    assert found["B"].effect == pytest.approx(-2, abs=0.06) and found["C"].effect == pytest.approx(2, abs=0.06)


def test_runs_that_die_whatever_is_changed_leave_all_undefined():
    of = design(2)
    found = estimate(of, np.full((4, 8), np.nan))
    assert all(math.isnan(c.effect) and c.verdict == "inconclusive" for c in found.values())
    # Two that die by themselves leave only the control: nothing is on the other side.
    alone = noisy(of)
    alone[1:] = np.nan
    found = estimate(of, alone)
    assert found["A"].verdict == found["B"].verdict == "worse" and math.isnan(found["AxB"].effect)


def test_a_change_that_never_acted_has_no_effects():
    of = design(4, 4)
    outcomes = noisy(of, (4.0, [2, 3]))
    found = estimate(of, outcomes, inert=("output of A multiplied by 0",))
    assert set(found) == {"B", "C", "D", "BxC", "BxD", "CxD"} and not any("alias" in c.changes for c in found.values())
    assert found["CxD"].effect == pytest.approx(2, abs=0.05)


def test_single_arms_and_ladders():
    assert [a.name for a in designs.single([Knob("gate", "none"), ClipGradient(1.0)])] == [
        "gate=none",
        "gradient norm clipped to 1",
    ]
    rungs = designs.ladder(lambda f: Scale("x", f), (0.1, 0.3))
    assert [a.interventions for a in rungs] == [(Scale("x", 0.1),), (Scale("x", 0.3),)]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (CHANGES[:1], "factorial of 1 change"),
        ((*CHANGES, Ablate("I")), "factorial of 9"),
        ((CHANGES[0], CHANGES[0]), "twice"),
        ((Knob("gate", "a"), Knob("gate", "b")), "`gate` is in the factorial twice"),
    ],
)
def test_factorials_that_cannot_be(changes, match):
    with pytest.raises(PitpropError, match=match):
        designs.factorial(changes)
