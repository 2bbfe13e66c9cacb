"""The parts that rules are made of, against slow twins and against their stated properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_traces import ar

from pitprop.rules._online import (
    RUN_LENGTH,
    Evidence,
    Persistence,
    follow,
    gather,
    lasting,
    new_reference,
    new_shift,
    observe,
    persist,
    shifted,
    since_start,
)

finite = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(st.lists(st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf])), max_size=60))
def test_reference_is_median_and_mad_of_the_first_finite_values(values):
    reference = new_reference(10)
    for value in values:
        reference = observe(reference, value)
    seen = [v for v in values if math.isfinite(v)][:10]
    assert len(reference.window) == 10
    if len(seen) < 10:
        assert math.isnan(reference.centre) and math.isnan(reference.spread)
    else:
        assert reference.centre == np.median(seen)
        assert reference.spread == pytest.approx(1.4826 * np.median(np.abs(np.array(seen) - np.median(seen))))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.05, 0.9))
def test_evidence_is_the_recursion_and_the_onset_its_best_start(values, margin):
    """M = (M + 1)(1 + lambda (X - m0)) is the sum over all starts of the product since; the onset is the best start."""
    evidence, m = Evidence(), 0.0
    for step, value in enumerate(values):
        evidence = gather(evidence, step, value, margin)
        m = (m + 1) * (1 + 0.5 / margin * (value - margin))
    assert evidence.log_sum == pytest.approx(math.log(m), abs=1e-6)
    gains = np.log1p(0.5 / margin * (np.array(values) - margin))
    since = np.cumsum(gains[::-1])[::-1]  # evidence of each start
    assert evidence.log_best == pytest.approx(max(0.0, since.max()), abs=1e-6)
    if evidence.log_best > 1e-6:
        assert since[evidence.onset] == pytest.approx(since.max(), abs=1e-6)


def test_evidence_of_nan_is_none():
    before = gather(Evidence(), 0, 0.9, 0.1)
    assert gather(before, 1, math.nan, 0.1) == before


def test_run_length_holds_at_the_edge_of_the_hypothesis():
    """Conditional mean exactly at the margin, rows not independent: P(alarm in n rows) <= n / run length, by Markov."""
    num_runs, num_rows, alarms = 200, 1000, 0
    for seed in range(num_runs):
        rng = np.random.default_rng(seed)
        evidence, value = Evidence(), 0.0
        for step in range(num_rows):
            value = float(rng.random() < 0.5) if value < 1 else 0.5 + 0.25 * rng.choice((-1, 1))
            evidence = gather(evidence, step, value, 0.5)
            if evidence.log_sum >= math.log(RUN_LENGTH):
                alarms += 1
                break
    assert alarms / num_runs <= num_rows / RUN_LENGTH + 3 * math.sqrt(0.1 * 0.9 / num_runs)


def test_persistence_counts_only_what_is_unbroken():
    state = Persistence()
    for step, holds in enumerate([True, True, False, True, True, True]):
        state = persist(state, 10 * step, holds)
    assert state == Persistence(rows=6, count=3, onset=30)
    assert not since_start(state)
    assert since_start(persist(Persistence(), 7, True)) and not since_start(Persistence())


def test_nothing_lasts_inside_the_transient():
    state = Persistence()
    lasted = []
    for step in range(50):
        state = persist(state, step, True)
        lasted.append(lasting(state, patience=20, transient=20))
    assert lasted.index(True) == 39


@pytest.mark.parametrize("phi", [0.0, 0.9, 0.98])
def test_shift_has_the_delay_and_onset_that_its_page_states(phi):
    """A drift over 300 rows that ends twice the span away: found while it drifts or just after, onset within it."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        series = 0.02 * ar(900, phi, rng)
        series[500:800] += np.linspace(0, 0.8, 300)
        series[800:] += 0.8
        state, found = new_shift(), None
        for step, value in enumerate(series):
            state = follow(state, step, float(value), span=0.4)
            if shifted(state):
                found = step
                break
        assert found is not None and 500 < found < 800
        early = (1 + phi) / (1 - phi)  # a wander that leads into the change counts with it
        assert 500 - early <= state.evidence.onset < 650


def test_shift_says_nothing_of_a_series_that_began_failed():
    state = new_shift(5)
    for step in range(50):
        state = follow(state, step, 0.9, span=-0.4)
    assert state.evidence == Evidence() and not shifted(state)
