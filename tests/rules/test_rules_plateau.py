"""A start that healthy networks have is no failure; the same after something better is, and so is one for good."""

import math

import numpy as np
import pytest
from rule_traces import rows

from pitprop.rules import by_name, detect
from pitprop.rules._plateau import LONGEST, Level, Plateau, descend, dwell, stuck

T = np.arange(900)
NOISE = 0.01 * np.random.default_rng(0).standard_normal(len(T))

STATES = {
    "output-duplication": lambda bad: {
        "output_spread": np.where(bad, 0.006, 0.5),
        "output_uniqueness": np.where(bad, 0.2, 0.97),
    },
    "loss-plateau-at-floor": lambda bad: {
        "loss": np.where(bad, 2.303, 1.2) * (1 + NOISE),
        "loss_floor": np.full(len(T), 2.303),
    },
    "class-collapse": lambda bad: {
        "class_loss_ratio": np.where(bad, 1.03, 0.5) * (1 + NOISE),
        "class_entropy_ratio": np.where(bad, 0.05, 0.9),
    },
}
"""What a rule reads, where the mask says that the state is the bad one."""

by_rule = pytest.mark.parametrize("name", STATES)


def findings(name, series):
    return detect(rows(series), (by_name(name),))


@by_rule
@pytest.mark.parametrize("left", [70, 160, 220])
def test_a_plateau_at_the_start_that_is_left_is_fine(name, left):
    assert findings(name, STATES[name](left > T)) == []


@by_rule
def test_what_stays_there_for_good_is_found(name):
    [finding] = findings(name, STATES[name](T >= 0))
    assert finding.severity == "failure" and finding.onset <= 20 and finding.detected == LONGEST - 1


@by_rule
def test_what_was_better_is_found_much_sooner(name):
    [finding] = findings(name, STATES[name](T >= 300))
    assert abs(finding.onset - 300) <= 12 and finding.detected - 300 <= 110


@by_rule
def test_what_learned_late_and_then_lost_it_is_found(name):
    [finding] = findings(name, STATES[name]((T < 200) | (T >= 400)))
    assert abs(finding.onset - 400) <= 12


def test_a_few_good_rows_are_no_state_to_lose():
    flicker = (T < 60) | ((T >= 75) & (T < 200))
    for name, state in STATES.items():
        assert findings(name, state(flicker)) == [], name


@pytest.mark.parametrize("steps", [130, 400])
def test_a_loss_that_still_comes_down_to_the_prior_has_not_collapsed_to_it(steps):
    """Everything is background from the first step; the loss needs `steps` to get to the prior's, and then goes on."""
    ratio = np.where(steps > T, 2.4 - 1.4 * T / steps, 1.0) - 0.3 * (T > 1.5 * steps)
    series = {"class_loss_ratio": ratio * (1 + NOISE), "class_entropy_ratio": np.where(2 * steps > T, 0.0, 0.9)}
    assert findings("class-collapse", series) == []


def test_a_loss_that_came_down_to_the_prior_and_stays_is_found():
    series = {"class_loss_ratio": np.maximum(2.4 - T / 100, 1.0), "class_entropy_ratio": np.zeros(len(T))}
    [finding] = findings("class-collapse", series)
    assert 240 <= finding.detected <= 19 + 2 * 150


def test_a_slow_start_at_the_floor_is_given_the_time_that_it_took():
    """It comes to the floor by row 200, and leaves it at row 500."""
    loss = np.where(T < 500, np.maximum(5 - T / 74, 2.303), 2.0) * (1 + 0.1 * NOISE)
    assert findings("loss-plateau-at-floor", {"loss": loss, "loss_floor": np.full(len(T), 2.303)}) == []


def test_the_level_is_the_median_of_twenty_and_progress_is_five_per_cent():
    rng = np.random.default_rng(1)
    losses = np.exp(0.2 * rng.standard_normal(200) - 0.01 * np.arange(200))
    level, lowest = Level(), math.inf
    for step, loss in enumerate(losses):
        level = descend(level, loss)
        if step < 19:
            assert math.isnan(level.median) and not level.progress
            continue
        median = float(np.median(losses[step - 19 : step + 1]))
        assert level.median == pytest.approx(median) and level.progress == (median < 0.95 * lowest)
        lowest = median if level.progress else lowest
        assert level.lowest == lowest


def test_neither_in_the_state_nor_better_is_on_its_way():
    plateau = Plateau()
    for step in range(1000):
        plateau = dwell(plateau, step, inside=False, better=False)
    assert not plateau.was_better and not stuck(plateau, 1)


def test_outputs_that_are_equal_but_for_rounding_are_no_start():
    series = {"output_spread": np.full(100, 1e-7), "output_uniqueness": np.full(100, 1 / 64)}
    [finding] = findings("output-duplication", series)
    assert (finding.onset, finding.detected) == (0, 39)
