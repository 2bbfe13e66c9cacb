"""The pure core of the bisection: the sequential test, the oracle's budget, and the search on problems with answers."""

import importlib.util
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pitprop.trials.bisection.oracle import FIRST, Oracle
from pitprop.trials.bisection.search import search
from pitprop.trials.bisection.sequential import SequentialTest

NAMES = tuple("abcdefghij")
PLENTY = 10**6


def chances(test, rate):
    """Exact probability of each outcome for a configuration that collapses at `rate`, and the mean number of runs."""
    found, live, mean = {"collapses": 0.0, "healthy": 0.0, "unresolved": 0.0}, {(0, 0): 1.0}, 0.0
    while live:
        following = {}
        for (collapsed, runs), weight in live.items():
            mean += weight
            for more, chance in ((1, rate), (0, 1 - rate)):
                outcome = test.decide(collapsed + more, runs + 1)
                if outcome:
                    found[outcome] += weight * chance
                else:
                    key = (collapsed + more, runs + 1)
                    following[key] = following.get(key, 0.0) + weight * chance
        live = following
    return found, mean


def test_the_sequential_test_keeps_its_error_rates():
    test = SequentialTest()
    assert chances(test, test.healthy)[0]["collapses"] <= test.error
    assert chances(test, test.collapsing)[0]["healthy"] <= test.error
    for rate in (0, test.healthy, test.collapsing, 1):
        assert chances(test, rate)[0]["unresolved"] <= 0.005
    assert chances(test, 1)[1] == pytest.approx(3) and chances(test, 0)[1] == pytest.approx(8)
    assert chances(test, 0.6)[1] == pytest.approx(7.1, abs=0.05)


def test_a_rate_between_the_two_ends_unresolved_rather_than_forced():
    test = SequentialTest()
    assert chances(test, 0.27)[0]["unresolved"] > 0.05
    assert test.decide(9, test.most) == "unresolved" and test.decide(9, test.most - 1) is None


@given(st.integers(0, 39), st.data())
@settings(deadline=None)
def test_a_batch_never_runs_past_a_decision(runs, data):
    test = SequentialTest()
    collapsed = data.draw(st.integers(0, runs))
    if test.decide(collapsed, runs) is None:
        count = test.fewest(collapsed, runs)
        assert runs + count <= test.most
        for fewer in range(1, count):
            for more in range(fewer + 1):
                assert test.decide(collapsed + more, runs + fewer) is None


def oracle_of(collapses, budget=PLENTY):
    """An oracle, and the runs that it made."""
    made = []

    def runs(subset, seeds):
        made.extend((subset, seed) for seed in seeds)
        return [collapses(subset, seed) for seed in seeds]

    return Oracle(runs, NAMES, budget=budget), made


def sets(culprits):
    return {frozenset(c.changes) for c in culprits}


def hitting(guilty):
    """The minimal sets that meet every guilty set."""
    every = {frozenset(choice) for choice in product(*guilty)}
    return {s for s in every if not any(other < s for other in every)}


guilty_sets = st.lists(st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3), min_size=1, max_size=3)


@given(guilty_sets)
@settings(deadline=None)
def test_every_set_that_is_named_is_a_minimal_one(guilty):
    minimal = {g for g in guilty if not any(other < g for other in guilty)}
    found = search(oracle_of(lambda subset, seed: any(g <= subset for g in minimal))[0])
    assert found.ends == "apart" and not found.open
    assert sets(found.bringing) <= minimal and sets(found.curing) <= hitting(minimal)
    assert found.bringing and found.curing
    # None is left out that shares no change with those that were found.
    assert all(any(g & b for b in sets(found.bringing)) for g in minimal)
    assert all(any(h & c for c in sets(found.curing)) for h in hitting(minimal))
    assert not set(found.exonerated) & frozenset().union(*sets(found.bringing), *sets(found.curing))


@given(st.integers(0, 2**32), st.integers(2, 5))
@settings(deadline=None)
def test_changes_that_undo_each_other_never_make_it_claim_what_was_not_seen(number, size):
    """Arbitrary functions of the first changes: sets that are named were tested, and so were all one smaller."""
    names = NAMES[:size]

    def collapses(subset, seed):
        if len(subset) in (0, size):
            return bool(subset)
        return bool(number >> (sum(1 << names.index(n) for n in subset) % 32) & 1)

    found = search(Oracle(lambda subset, seeds: [collapses(subset, s) for s in seeds], names, budget=PLENTY))
    everything = frozenset(names)
    for subset in sets(found.bringing):
        assert collapses(subset, 0)
        assert not any(collapses(subset - {n}, 0) for n in subset)
    for subset in sets(found.curing):
        assert not collapses(everything - subset, 0)
        assert all(collapses(everything - (subset - {n}), 0) for n in subset)


@given(guilty_sets, st.integers(0, 400))
@settings(deadline=None)
def test_the_budget_is_honoured_and_what_is_open_is_said(guilty, budget):
    def collapses(subset, seed):
        return any(g <= subset for g in guilty)

    oracle, made = oracle_of(collapses, budget)
    found = search(oracle)
    assert len(made) == len(set(made)) == oracle.used <= budget
    whole = search(oracle_of(collapses)[0])
    assert found == whole or found.open
    for c in found.bringing:
        assert collapses(frozenset(c.changes), 0)
        if c.minimal:
            assert frozenset(c.changes) in sets(whole.bringing)
    for c in found.curing:
        assert not collapses(frozenset(NAMES) - set(c.changes), 0)


def test_where_the_budget_ends_the_smallest_set_so_far_is_named_and_not_called_minimal():
    oracle, _ = oracle_of(lambda subset, seed: {"a", "d"} <= subset, budget=2 * FIRST + 12)
    found = search(oracle)
    (smallest,) = found.bringing
    assert {"a", "d"} < set(smallest.changes) < set(NAMES) and not smallest.minimal
    assert not found.exonerated and found.curing == ()
    assert found.open[0] == "The budget ended before it was known whether smaller sets bring it."


def test_end_points_that_are_not_apart():
    assert search(oracle_of(lambda subset, seed: False)[0]).ends == "bad does not collapse"
    assert search(oracle_of(lambda subset, seed: True)[0]).ends == "good collapses"
    assert search(oracle_of(lambda subset, seed: bool(subset), budget=15)[0]).ends == "unresolved"


def test_subsets_that_cannot_run_are_no_evidence():
    """`b` cannot be made without `j`; the guilty one is `d`."""

    def collapses(subset, seed):
        return None if "b" in subset and "j" not in subset else "d" in subset

    oracle, _ = oracle_of(collapses)
    found = search(oracle)
    assert sets(found.bringing) == sets(found.curing) == {frozenset("d")}
    unresolved = [step for step in oracle.steps if step.outcome == "unresolved"]
    assert unresolved and all(step.runs == 0 for step in unresolved)


def test_seeds_are_those_that_tell_good_from_bad():
    """Collapse that depends on the seed: even seeds never collapse, seed 3 always does."""
    oracle, made = oracle_of(lambda subset, seed: seed == 3 or (seed % 2 == 1 and "g" in subset))
    found = search(oracle)
    assert sets(found.bringing) == {frozenset("g")}
    inner = {seed for subset, seed in made if 0 < len(subset) < len(NAMES)}
    assert inner and all(seed % 2 == 1 and seed != 3 for seed in inner)


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[2] / "bench" / "bisection.py"
    spec = importlib.util.spec_from_file_location("bench_bisection", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_200_simulated_problems(bench):
    """Floors under the table of docs/bisect.md: over 2000 problems the share of exact answers is .999."""
    found = bench.table(map(bench.problem, range(200)), budget=300)
    ours = found.pop("`pitprop bisect`")
    assert bench.share(ours, "both") >= 0.985 and bench.share(ours, "false") <= 0.015
    assert max(scored["runs"] for _, scored in ours) <= 300
    for rows in found.values():
        assert bench.share(rows, "both") < bench.share(ours, "both") - 0.04
        assert bench.share(rows, "false") > bench.share(ours, "false")


def test_the_simulated_answers_are_the_right_ones(bench):
    """The judge of the simulation can say no."""
    p = next(p for p in map(bench.problem, range(8)) if p.kind == "two together")
    (pair,) = p.guilty
    a, b = sorted(pair)
    assert p.curing == {frozenset([a]), frozenset([b])}
    right = bench.Answer({pair}, {frozenset([a])}, 1)
    assert bench.score(p, right)["both"] and not bench.score(p, right)["false"]
    assert not bench.score(p, bench.Answer({frozenset([a])}, {frozenset([a])}, 1))["both"]
    assert not bench.score(p, bench.Answer(set(), set(), 1))["both"]
    innocent = next(name for name in p.names if name not in pair)
    assert bench.score(p, bench.Answer({pair | {innocent}}, {frozenset([a])}, 1))["false"]
