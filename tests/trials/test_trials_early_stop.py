"""Stopping: which arms stop where; decided alike whatever the executor, the order of arrival, or a kill."""

import math

import pytest

from pitprop.trials import Arm, Plan
from pitprop.trials.early_stop import run_staged, wave
from pitprop.trials.executors import Outcome
from pitprop.trials.interventions import Scale
from pitprop.trials.judge import judge, refuse_failed_control
from pitprop.trials.run import to_json_number

SEEDS = tuple(range(8))
NOISE = (0.01, -0.02, 0.03, 0.0, -0.01, 0.02, -0.03, 0.015)
EFFECTS = {
    "much worse": lambda seed: -1 + NOISE[seed],
    "much better": lambda seed: 1 + NOISE[seed],
    "nothing": lambda seed: NOISE[seed],
    "worse by less than the margin": lambda seed: -0.09 + NOISE[seed] / 10,
    "worse, alike by chance": lambda seed: -0.2,
    "worse later": lambda seed: (1, -1, 0.5, -0.5)[seed] if seed < 4 else -3.0,
    "worse, and dead at one": lambda seed: math.nan if seed == 1 else -1 + NOISE[seed],
    "worse where both live, and saves one": lambda seed: -1 + NOISE[seed],
    "dies": lambda seed: math.nan,
    "dies but once": lambda seed: 0.0 if seed == 2 else math.nan,
}


class Fake:
    """Runs nothing: the metric of a run is read from `EFFECTS`; killed after so many runs, if asked to be."""

    def __init__(self, workers=1, *, backwards=False, lives=10**6):
        self.workers, self.backwards, self.lives, self.runs = workers, backwards, lives, 0

    def run(self, tasks):
        for index in reversed(range(len(tasks))) if self.backwards else range(len(tasks)):
            if self.runs == self.lives:
                raise KeyboardInterrupt
            self.runs += 1
            spec = tasks[index].arguments[0]
            name = spec.interventions[0].path if spec.interventions else "control"
            value = EFFECTS[name](spec.seed) if name in EFFECTS else 0.0
            yield index, Outcome(value={"metrics": {"m": to_json_number(5 + value)}})


def plan(*names, **options):
    arms = tuple(Arm(name, (Scale(name, 0.5),)) for name in names)
    fields = {"margin": 0.1, "metric": "m", "horizon": 1, "early_stop": True, "seeds": SEEDS}
    return Plan(recipe="r", source="s", arms=arms, **fields | options)


def run(made, folder, executor):
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    results, stopped = run_staged(made, folder, executor)
    return stopped, judge(made, made.arms, made.seeds, results, stopped)


def test_only_what_is_clearly_worse_stops(tmp_path):
    executor = Fake()
    stopped, comparisons = run(plan(*list(EFFECTS)[:6]), tmp_path, executor)
    assert stopped == {"much worse": 4}
    assert executor.runs == 7 * 8 - 4
    by_arm = {c.arm: c for c in comparisons}
    assert by_arm["much worse"].verdict == "worse" and by_arm["much worse"].stopped_of == 8
    assert by_arm["much worse"].confidence == pytest.approx(1 - 0.005 / 6)
    assert by_arm["much better"].verdict == "better" and by_arm["much better"].stopped_of is None
    going = [c.confidence for c in comparisons if c.stopped_of is None]
    assert going == pytest.approx([1 - 0.045 / 6] * 5), "the intervals hold together"


def test_a_run_that_dies_counts_against_an_arm_and_one_that_is_saved_for_it(tmp_path, monkeypatch):
    stopped, _ = run(plan("worse, and dead at one"), tmp_path / "dead", Fake())
    assert stopped == {"worse, and dead at one": 5}, "four pairs are there after five seeds"
    saving = Fake()
    monkeypatch.setitem(EFFECTS, "control", lambda seed: math.nan if seed == 1 else 0.0)
    assert run(plan("worse where both live, and saves one"), tmp_path / "saved", saving)[0] == {}


@pytest.mark.parametrize(("beside", "seeds"), [(0, 5), (3, 6), (11, 7)])
def test_an_arm_that_dies_at_every_seed_stops(tmp_path, beside, seeds):
    made, executor = plan("dies", *(f"nothing {i}" for i in range(beside))), Fake()
    stopped, comparisons = run(made, tmp_path, executor)
    assert stopped == {"dies": seeds} and executor.runs == (2 + beside) * 8 - (8 - seeds) * (1 if beside else 2)
    (dead,) = (c for c in comparisons if c.arm == "dies")
    assert (dead.verdict, dead.stopped_of) == ("worse", 8) and all(map(math.isnan, (dead.effect, dead.low, dead.high)))


def test_one_run_that_lives_makes_it_go_on(tmp_path):
    stopped, (c,) = run(plan("dies but once", seeds=tuple(range(6))), tmp_path, Fake())
    assert stopped == {} and c.verdict == "worse", "the exact test at the end says so"


def test_an_arm_that_dies_where_the_control_does_is_not_stopped(tmp_path, monkeypatch):
    monkeypatch.setitem(EFFECTS, "control", lambda seed: math.nan)
    stopped, (c,) = run(plan("dies"), tmp_path, Fake())
    assert stopped == {} and c.verdict == "inconclusive"


def test_without_it_all_runs_are_made(tmp_path):
    executor = Fake()
    stopped, (c,) = run(plan("much worse", early_stop=False), tmp_path, executor)
    assert not stopped and executor.runs == 16 and c.verdict == "worse" and c.confidence == 0.95


def test_with_every_arm_stopped_the_control_stops_too(tmp_path):
    executor = Fake()
    made = plan("much worse")
    run(made, tmp_path, executor)
    assert executor.runs == 8
    refuse_failed_control(run_staged(made, tmp_path, executor)[0], made.seeds)


@pytest.mark.parametrize("executor", [Fake(3), Fake(16), Fake(5, backwards=True)])
def test_workers_and_order_of_arrival_change_nothing(tmp_path, executor):
    made = plan("much worse", "nothing", "worse later", "much better")
    assert run(made, tmp_path / "a", executor) == run(made, tmp_path / "b", Fake())


def test_killed_anywhere_it_resumes_to_the_same_end(tmp_path):
    made = plan("much worse", "nothing", "much better")
    whole = run(made, tmp_path / "whole", Fake())
    for lives in range(28):
        folder = tmp_path / str(lives)
        with pytest.raises(KeyboardInterrupt):
            run(made, folder, Fake(lives=lives))
        again = Fake(workers=4)
        assert run(made, folder, again) == whole
        assert again.runs + lives >= 28


def test_results_past_the_stop_are_no_part_of_the_verdict(tmp_path):
    run(plan("much worse", "nothing", early_stop=False), tmp_path / "a", Fake())
    assert run(plan("much worse", "nothing"), tmp_path / "a", Fake(lives=0)) == run(
        plan("much worse", "nothing"), tmp_path / "b", Fake()
    )


@pytest.mark.parametrize(
    ("arms", "workers", "expected"), [(13, 2, 1), (9, 2, 1), (2, 1, 1), (3, 16, 5), (2, 16, 8), (13, 16, 6)]
)
def test_a_wave_keeps_the_workers_busy(arms, workers, expected):
    assert wave(arms, workers) == expected
