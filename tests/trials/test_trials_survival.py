"""Runs that die: the exact test, and the evidence that may be looked at after every seed."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pitprop.trials.survival import LOST, SAME, SAVED, Survival, survival, verdict_of_all


def test_survival_is_tested_exactly():
    alive = survival([math.nan] * 6 + [1.0, 1.0], [1.0] * 6 + [math.nan, 1.0])
    assert (alive.saved, alive.lost, alive.control, alive.treated, alive.seeds) == (6, 1, 2, 7, 8)
    assert alive.p_saved == pytest.approx(stats.binomtest(8 + 5, 16, alternative="greater").pvalue)
    assert alive.p_lost == pytest.approx(stats.binomtest(8 - 5, 16, alternative="greater").pvalue)
    assert survival([1.0], [1.0]).p_saved == 0.75


def counted(seeds, lost, saved=0):
    return Survival(control=seeds - saved, treated=seeds - lost, seeds=seeds, saved=saved, lost=lost)


@pytest.mark.parametrize("control", [0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
def test_a_seed_is_not_expected_to_add_evidence_where_the_arm_dies_no_oftener(control):
    for treated in np.linspace(0, control, 6):
        lost, saved = treated * (1 - control), control * (1 - treated)
        assert LOST * lost + SAVED * saved + SAME * (1 - lost - saved) <= 1 + 1e-12


@pytest.mark.parametrize("chance", [0.02, 0.2, 0.5, 0.7])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_evidence_reaches_its_bound_by_chance_no_oftener_than_it_may(alpha, chance):
    """Ville's inequality, exactly, over all the paths of 60 seeds: by dynamic programming over the counts."""
    x = chance * (1 - chance)
    going, crossed = {(0, 0): 1.0}, 0.0
    for seeds in range(1, 61):
        after: dict[tuple[int, int], float] = {}
        for (lost, saved), p in going.items():
            for step, q in (((1, 0), x), ((0, 1), x), ((0, 0), 1 - 2 * x)):
                key = (lost + step[0], saved + step[1])
                after[key] = after.get(key, 0.0) + p * q
        over = {key for key in after if alpha * counted(seeds, *key).evidence_lost >= 1}
        crossed += sum(after.pop(key) for key in over)
        going = after
    assert 0 <= crossed <= alpha


@pytest.mark.parametrize(("arms", "seeds"), [(1, 5), (4, 6), (12, 7)])
def test_an_arm_that_always_dies_is_found_out_in_a_few_seeds(arms, seeds):
    confidence = 1 - 0.005 / arms
    first = next(n for n in itertools.count(1) if counted(n, n).shows(confidence, stopped=True))
    assert first == seeds
    assert counted(60, 0, 60).shows(confidence, stopped=True) is None, "an arm that saves runs is never stopped"


def test_survival_has_half_of_the_error():
    assert counted(3, 3).p_lost == 1 / 64 and counted(3, 3).shows(0.95) is None
    assert counted(3, 3).shows(1 - 4 / 64) == "worse" and counted(3, 0, 3).shows(1 - 4 / 64) == "better"
    assert verdict_of_all(counted(4, 4), "better") == "worse"
    assert verdict_of_all(counted(4, 1), "better") == verdict_of_all(counted(4, 0, 1), "worse") == "inconclusive"
    assert verdict_of_all(counted(4, 1), "worse") == "worse" and verdict_of_all(counted(4, 0), "better") == "better"
