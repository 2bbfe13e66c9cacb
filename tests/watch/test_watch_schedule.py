"""Which steps are measured, on a clock that the test moves by hand."""

import itertools
import math

import pytest

from pitprop._errors import PitpropError
from pitprop.watch.schedule import Schedule


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def simulate(schedule, clock, steps, *, step_s=1.0, surplus_s=0.0, own_s=0.0):
    """Steps that take `step_s`, and `surplus_s` more, and `own_s` between steps, where measured; the measured ones."""
    sampled = []
    for step in range(steps):
        schedule.begin_work()
        if step:
            schedule.finish()
        measured = schedule.decide(step)
        clock.now += own_s if measured else 0.0
        schedule.end_work()
        if measured:
            sampled.append(step)
        clock.now += step_s + (surplus_s if measured else 0.0)
    return sampled


def make(**kwargs):
    clock = Clock()
    return Schedule(clock=clock, **kwargs), clock


def test_every_without_budget_is_deterministic():
    schedule, clock = make(every=7, budget=None)
    assert simulate(schedule, clock, 30, surplus_s=100.0) == [0, 7, 14, 21, 28]


def test_automatic_is_dense_then_every_ten():
    schedule, clock = make(budget=None)
    sampled = simulate(schedule, clock, 200)
    assert sampled[:8] == [0, 1, 2, 3, 4, 5, 6, 8]
    gaps = [b - a for a, b in itertools.pairwise(sampled)]
    assert gaps == sorted(gaps) and gaps[-1] == 10 and sampled[-1] > 180


def test_a_resumed_run_starts_densely_again():
    schedule, _ = make(budget=None)
    assert [schedule.decide(step) for step in (500, 501, 502)] == [True, True, True]


@pytest.mark.parametrize("every", [None, 1])
@pytest.mark.parametrize("cost", [{"surplus_s": 0.5}, {"own_s": 0.5}, {"surplus_s": 0.3, "own_s": 0.3}])
def test_the_budget_stretches_the_schedule(every, cost):
    schedule, clock = make(every=every, budget=0.02)
    sampled = simulate(schedule, clock, 3000, **cost)
    spent = len(sampled) * sum(cost.values())
    assert spent / clock.now <= 0.02
    assert schedule.share == pytest.approx(spent / clock.now, rel=0.02)
    assert len(sampled) >= 0.9 * 0.02 * 3000 / sum(cost.values())  # and it is used up


def test_a_fast_loop_is_seen_although_that_takes_more_than_its_budget():
    schedule, clock = make(budget=0.02)
    sampled = simulate(schedule, clock, 3000, step_s=0.001, surplus_s=0.006, own_s=0.006)
    free, free_clock = make(budget=None)
    assert sampled[:3] == [0, 1, 2]
    assert len(sampled) >= 60 and sampled[59] <= simulate(free, free_clock, 3000)[59] + 20
    assert all(b - a <= b / 10 + 1 for a, b in itertools.pairwise(sampled[60:]))  # it is never left unseen, ...
    assert len(sampled) < 60 + math.log(3000 / 500) / math.log(1.1) + 2  # ... at a price that hardly grows


def test_what_the_first_measured_steps_may_cost_is_bounded():
    schedule, clock = make(budget=0.02)
    sampled = simulate(schedule, clock, 1000, step_s=0.1, surplus_s=0.05)
    assert len([step for step in sampled if step < 260]) * 0.05 <= 1.0 + 0.05
    assert schedule.share is not None and schedule.share <= 0.02


def test_a_cheap_measurement_is_not_stretched():
    schedule, clock = make(budget=0.02)
    free, free_clock = make(budget=None)
    cheap = simulate(schedule, clock, 500, surplus_s=0.01)
    # Two plain steps are kept early on, to compare with; from then on the two are the same.
    assert len(cheap) >= len(simulate(free, free_clock, 500)) - 3


def test_one_hiccup_does_not_count():
    schedule, clock = make(every=2, budget=0.02)
    simulate(schedule, clock, 20, surplus_s=0.001)
    before = schedule.surplus_s
    schedule.begin_work()
    schedule.finish()
    schedule.decide(20)
    schedule.end_work()
    clock.now += 1000.0
    schedule.begin_work()
    schedule.finish()
    assert schedule.surplus_s == pytest.approx(before, abs=1e-9)


def test_the_share_is_unknown_before_there_is_something_to_compare():
    schedule, clock = make(every=1, budget=None)
    simulate(schedule, clock, 10, surplus_s=1.0)
    assert schedule.share is None
    assert schedule.describe()["num_sampled"] == schedule.num_steps == 9  # the tenth has not ended


@pytest.mark.parametrize("bad", [{"every": 0}, {"budget": 0.0}, {"budget": 1.5}])
def test_bad_input(bad):
    with pytest.raises(PitpropError, match=next(iter(bad))):
        Schedule(**bad)
