"""The confidence sequence, and what a whole trial of null arms errs; the tables of design note 003 come from here.

Print them with `python tests/trials/test_trials_confidence_sequence.py`.
"""

import math
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from pitprop.trials import Arm, Plan, comparison
from pitprop.trials.confidence_sequence import FIRST, interval_at, level
from pitprop.trials.early_stop import stopped_after
from pitprop.trials.interval import bounds, interval
from pitprop.trials.judge import SPENT, judge
from pitprop.trials.survival import LOST, PART, SAME, SAVED

REPEATS = 20_000
ARMS = 12
NOISE = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy-tailed (t, 3 degrees)": lambda rng, size: rng.standard_t(3, size=size),
    "skewed (exponential)": lambda rng, size: rng.exponential(size=size),
    "very skewed (log-normal)": lambda rng, size: rng.lognormal(size=size),
    "counts (of 100, 90 right)": lambda rng, size: rng.binomial(100, 0.9, size=size) / 100,
}
DIFFERENCES = {
    "normal": NOISE["normal"],
    "heavy-tailed (t, 3 degrees)": NOISE["heavy-tailed (t, 3 degrees)"],
    "exponential less its mean": lambda rng, size: rng.exponential(size=size) - 1,
    "the mean less exponential": lambda rng, size: 1 - rng.exponential(size=size),
}
"""Differences of mean 0; those of arms that are exchangeable with the control are symmetric."""
SKEWED = ("exponential less its mean",)
AT_MOST = stats.binom.ppf(0.999, REPEATS, 0.05) / REPEATS
"""What 5 % may look like in so many repeats, 999 times of 1000: .0548."""


def test_its_weights_add_up_to_all_of_alpha():
    spent = [1 - level(count, 0) for count in range(FIRST, 4000)]
    assert sum(spent) < 1 and sum(spent) == pytest.approx(1, abs=1e-3)


def test_it_is_the_interval_at_a_level_that_pays_for_all_looks():
    differences = np.array([1.0, 1.3, 0.9, 1.2, 1.1])
    assert interval_at(differences, 0.99) == interval(differences, 1 - 0.01 * 3 / 20)
    few = interval_at(differences[:3], 0.99)
    assert math.isnan(few.low) and math.isnan(few.high) and few.mean == differences[:3].mean()
    assert all(math.isnan(interval_at(differences[:count], 0.99).mean) for count in (0, 1))


def looks(differences, confidence):
    """Whether the sequence lies under 0 (the stop of an arm), by the pairs seen; [repeat, arm, look]."""
    counts = range(FIRST, differences.shape[-1])
    seen = [differences[..., :count] for count in counts]
    under = [bounds(d, level(d.shape[-1], confidence))[1] < 0 for d in seen]
    return np.stack(under, -1) if under else np.zeros((*differences.shape[:-1], 0), bool)


def moved(differences, confidence):
    """Whether the interval excludes 0; [repeat, arm]."""
    low, high = bounds(differences, confidence)
    return (low > 0) | (high < 0)


def null_arms(noise, count, repeats=REPEATS):
    """Differences of arms that do nothing from the control that they share; [repeat, arm, seed]."""
    rng = np.random.default_rng(count)
    return NOISE[noise](rng, (repeats, ARMS, count)) - NOISE[noise](rng, (repeats, 1, count))


def family_wise(noise, count, *, early):
    """Share of trials of null arms that call any arm better or worse; margin 0."""
    alpha, wrong = 0.05, 0
    for differences in np.array_split(null_arms(noise, count), 10):
        found = moved(differences, 1 - (alpha - SPENT * early) / ARMS).any(-1)
        if early:
            found |= looks(differences, 1 - SPENT / ARMS).any((-1, -2))
        wrong += int(found.sum())
    return wrong / REPEATS


@pytest.mark.slow
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("count", [5, 8, 16])
@pytest.mark.parametrize("noise", NOISE)
def test_twelve_null_arms_err_at_most_5_percent_together(noise, count, early):
    assert family_wise(noise, count, early=early) <= AT_MOST


def through_the_engine(differences, dead=None):
    """Verdicts by the trial's own code: [repeat][arm]; `dead` says which runs have no number, the control's first."""
    arms = tuple(Arm(f"arm {i}") for i in range(differences.shape[1]))
    seeds = tuple(range(differences.shape[2]))
    plan = Plan(recipe="", source="", arms=arms, seeds=seeds, metric="m", horizon=1, early_stop=True)
    for i, rows in enumerate(differences):
        values = np.concatenate([np.zeros((1, len(seeds))), rows])
        if dead is not None:
            values[dead[i]] = math.nan
        names = ("control", *(arm.name for arm in arms))
        results = {
            (name, seed): {"status": "done", "metrics": {"m": values[j, seed]}}
            for j, name in enumerate(names)
            for seed in seeds
        }
        # Both are slow, and decide nothing.
        with mock.patch.multiple(comparison, sign_flip_p=lambda d: math.nan, _further_seeds=lambda *_: None):
            after = {arm.name: stopped_after(plan, arm, results, len(seeds)) for arm in arms}
            stopped = {name: count for name, count in after.items() if count is not None}
            yield [c.verdict for c in judge(plan, arms, seeds, results, stopped)]


def test_the_engine_errs_where_the_simulation_says_so():
    rng = np.random.default_rng(0)
    differences = null_arms("normal", 8, 60)
    differences[::2, 0] -= rng.uniform(2, 30, (30, 1))  # some arms are worse, and some of those stop
    said = list(through_the_engine(differences))
    stops = looks(differences, 1 - SPENT / ARMS).any(-1)
    assert 0 < stops.sum() < 30
    clear = stops | moved(differences, 1 - 0.045 / ARMS)
    assert [[v in ("better", "worse") for v in verdicts] for verdicts in said] == clear.tolist()


def living(differences, alive, confidence):
    """Side on which the interval over the pairs that live excludes 0, and how many pairs that are; [repeat, arm].

    `confidence` is a number, or what it is after so many pairs.
    """
    pairs, side = alive.sum(-1), np.zeros(alive.shape[:-1])
    for k in range(2, differences.shape[-1] + 1):
        some = pairs == k
        rows = differences[some][alive[some]].reshape(-1, k)
        if len(rows) and (at := confidence(k) if callable(confidence) else confidence):
            low, high = bounds(rows, at)
            side[some] = 1.0 * (low > 0) - 1.0 * (high < 0)
    return side


def family_wise_of_the_dying(count, chance, *, early, arms=ARMS, repeats=REPEATS, part=PART):
    """As `family_wise`, of normal arms, where each run dies by `chance` and survival has `part` of each level."""
    rng, wrong = np.random.default_rng(count), 0
    for _ in range(10):
        size = (repeats // 10, arms, count)
        differences = rng.normal(size=size) - rng.normal(size=(size[0], 1, count))
        lives, control = rng.random(size) >= chance, rng.random((size[0], 1, count)) >= chance
        both, ahead = lives & control, (lives & ~control).cumsum(-1) - (control & ~lives).cumsum(-1)
        alpha = (0.05 - SPENT * early) / arms
        tail = stats.binom.sf(count + np.abs(ahead[..., -1]) - 1, 2 * count, 0.5)
        side = living(differences, both, 1 - alpha)
        found = (
            (tail <= part * alpha / 2) | (side * np.sign(ahead[..., -1]) > 0) | ((side != 0) & (ahead[..., -1] == 0))
        )
        for n in range(FIRST, count) if early else ():
            lost, saved = ((a[..., :n] & ~b[..., :n]).sum(-1) for a, b in ((control, lives), (lives, control)))
            evidence = LOST**lost * SAVED**saved * SAME ** (n - lost - saved)
            by_value = living(
                differences[..., :n], both[..., :n], lambda k: level(k, 1 - SPENT / arms) if k >= FIRST else None
            )
            found |= (evidence >= 2 * arms / SPENT) | ((by_value < 0) & (lost >= saved))
        wrong += int(found.any(-1).sum())
    return wrong / (repeats // 10 * 10)


@pytest.mark.slow
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("count", "chance"), [(8, 0.3), (16, 0.5)])
def test_twelve_null_arms_whose_runs_die_err_at_most_5_percent_together(count, chance, early):
    repeats = 4000
    wrong = family_wise_of_the_dying(count, chance, early=early, repeats=repeats)
    assert wrong <= stats.binom.ppf(0.999, repeats, 0.05) / repeats


def stopping_of_the_dying(chance, count, arms):
    """Mean seeds of an arm that dies by `chance` at each, beside a control that always lives."""
    rng = np.random.default_rng(count)
    lost = (rng.random((REPEATS, count)) < chance).cumsum(-1)
    seeds = np.arange(1, count + 1)
    stops = (LOST**lost * SAME ** (seeds - lost) >= 2 * arms / SPENT)[..., FIRST - 1 : -1]
    return mean_seeds(stops, count)


def dead_runs(count, chance, repeats=500):
    """Share of trials that call any null arm better or worse where each run dies by `chance`."""
    rng = np.random.default_rng(count)
    dead = rng.random((repeats, ARMS + 1, count)) < chance
    said = through_the_engine(null_arms("normal", count, repeats), dead)
    return float(np.mean([any(v in ("better", "worse") for v in verdicts) for verdicts in said]))


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 8])
def test_null_arms_whose_runs_die_at_random_err_at_most_5_percent(count):
    assert dead_runs(count, 0.3) <= stats.binom.ppf(0.999, 500, 0.05) / 500


def wrongly_stopped(noise, count, arms):
    """Share of trials that stop any arm of mean 0; the arms' differences are independent."""
    rng, wrong = np.random.default_rng(count), 0
    for _ in range(10):
        stops = looks(DIFFERENCES[noise](rng, (REPEATS // 10, arms, count)), 1 - SPENT / arms)
        wrong += int(stops.any((-1, -2)).sum())
    return wrong / REPEATS


@pytest.mark.slow
@pytest.mark.parametrize("arms", [1, ARMS])
@pytest.mark.parametrize("count", [8, 16])
@pytest.mark.parametrize("noise", list(DIFFERENCES))
def test_no_symmetric_arm_is_stopped_oftener_than_is_paid_for_and_a_skewed_one_may_be(noise, count, arms):
    wrong = wrongly_stopped(noise, count, arms)
    allowed = stats.binom.ppf(0.999, REPEATS, SPENT / 2) / REPEATS  # one side of the sequence
    assert (wrong <= allowed) == (noise not in SKEWED) and wrong < 0.07


def mixture(differences, alpha, spread=0.05):
    """Stops of the mixture sequence for Gaussian differences: effect in standard deviations ~ N(0, 1 / `spread`)."""
    count = np.arange(1, differences.shape[-1] + 1)
    total, squares = differences.cumsum(-1), (differences**2).cumsum(-1)
    rest = 1 - total**2 / ((count + spread) * squares)
    evidence = 0.5 * np.log(spread / (count + spread)) - count / 2 * np.log(rest)
    return ((evidence >= -np.log(alpha)) & (total < 0))[..., FIRST - 1 : -1]


def self_normalised(differences, alpha):
    """The best that any exp(l S - l^2 V / 2) can do, l chosen afterwards: an upper bound of what symmetry allows."""
    total, squares = differences.cumsum(-1), (differences**2).cumsum(-1)
    return ((total**2 / (2 * squares) >= -np.log(alpha)) & (total < 0))[..., FIRST - 1 : -1]


def mean_seeds(stops, count):
    return float(np.where(stops.any(-1), stops.argmax(-1) + FIRST, count).mean())


def stopping(effect, count, arms):
    """Mean seeds that a normal arm runs which is worse by `effect` standard deviations of its differences."""
    rng = np.random.default_rng(count)
    differences = rng.normal(-effect, 1, (REPEATS, count))
    alpha = SPENT / arms
    return {
        "interval": mean_seeds(looks(differences, 1 - alpha), count),
        "mixture": mean_seeds(mixture(differences, alpha), count),
        "self-normalised": mean_seeds(self_normalised(differences, alpha), count),
    }


@pytest.mark.slow
@pytest.mark.parametrize("arms", [1, 4, 12])
def test_it_saves_seeds_where_an_arm_is_clearly_worse(arms):
    found = stopping(8, 8, arms)
    assert found["interval"] < 6 and found["interval"] < found["mixture"] + 0.5 < found["self-normalised"]


if __name__ == "__main__":
    print("| noise of the arms | seeds | all runs | stopping early |\n|---|---|---|---|")
    for noise in NOISE:
        for count in (5, 8, 16):
            print(f"| {noise} | {count} |", *(f"{family_wise(noise, count, early=e):.4f} |" for e in (False, True)))
    print("| differences of mean 0 | seeds | 1 arm | 12 arms |\n|---|---|---|---|")
    for noise in DIFFERENCES:
        for count in (8, 16):
            print(f"| {noise} | {count} |", *(f"{wrongly_stopped(noise, count, arms):.4f} |" for arms in (1, ARMS)))
    for count in (5, 8):
        print(f"runs die by chance .3, {count} seeds, by the engine: {dead_runs(count, 0.3):.3f}")
    print(
        "| arms | seeds | chance to die | full level | half of it | half, stopping early |\n|---|---|---|---|---|---|"
    )
    for arms in (1, ARMS):
        for count in (4, 8, 16, 32):
            for chance in (0.1, 0.3, 0.5):
                whole, half, early = (
                    family_wise_of_the_dying(count, chance, early=e, arms=arms, part=part)
                    for e, part in ((False, 1), (False, PART), (True, PART))
                )
                print(f"| {arms} | {count} | {chance} | {whole:.4f} | {half:.4f} | {early:.4f} |")
    print("| dies by chance | seeds | 1 arm | 4 arms | 12 arms |\n|---|---|---|---|---|")
    for chance in (1, 0.9, 0.8, 0.7):
        for count in (8, 16):
            cells = " | ".join(f"{stopping_of_the_dying(chance, count, arms):.1f}" for arms in (1, 4, 12))
            print(f"| {chance} | {count} | {cells} |")
    print("| worse by | seeds | arms | this | mixture | self-normalised |\n|---|---|---|---|---|---|")
    for count in (8, 16):
        for arms in (1, 4, 12):
            for effect in (3, 5, 8, 20):
                cells = " | ".join(f"{seeds:.1f}" for seeds in stopping(effect, count, arms).values())
                print(f"| {effect} sd | {count} | {arms} | {cells} |")
