"""Arms that never acted, of which nothing is learnt, and the recipe's own guards: through `trial`, end to end."""

import json
import math

import pytest

from pitprop import report
from pitprop.trials import Arm, trial
from pitprop.trials.candidates import name_of
from pitprop.trials.designs import factorial
from pitprop.trials.interventions import Ablate, ClipGradient, Freeze, Knob
from pitprop.trials.judge import inert, inert_changes

FEW = {"seeds": 3, "horizon": 40}


def test_a_guard_of_the_recipe_may_say_which_direction_is_good(pool, reference, tmp_path):
    found = trial(reference("recipes_tiny", "directed"), [Knob("pool", "none")], folder=tmp_path, executor=pool, **FEW)
    (guarded,) = found.guards
    assert not found.failed and guarded.metric == "loss" and guarded.verdict in ("better", "inconclusive")


IDLE = [Ablate("4"), ClipGradient(1e9), Freeze("4")]


def test_an_arm_that_never_acts_is_not_tested_and_widens_no_interval(pool, reference, tmp_path):
    """A module that is not called, a norm that no gradient has, parameters that never move: none is evidence."""
    guilty = Knob("pool", "none")
    found = trial(reference("recipes_tiny", "spare"), [*IDLE, guilty], folder=tmp_path / "a", executor=pool, **FEW)
    alone = trial(reference("recipes_tiny", "spare"), [guilty], folder=tmp_path / "b", executor=pool, **FEW)
    assert len(found.conclusion.inert) == 3
    (c,), (same,) = found.comparisons, alone.comparisons
    assert (c.low, c.high, c.confidence) == (same.low, same.high, same.confidence)
    assert {g.arm for g in found.guards} == {c.arm} and found.conclusion.exonerated == ()
    said = found.conclusion.statement
    assert f"Never acted, so not tested: {', '.join(found.conclusion.inert)}." in said
    assert "Worse:" not in said and "No difference within" not in said, said
    assert {f["arm"] for f in found.failed} == {"output of 4 multiplied by 0"}, "and the report says why"
    assert json.loads((tmp_path / "a" / "trial.json").read_text())["conclusion"]["inert"] == [*found.conclusion.inert]


def test_where_no_arm_acts_nothing_is_compared(pool, reference, tmp_path):
    found = trial(reference("recipes_tiny", "spare"), IDLE, folder=tmp_path, executor=pool, seeds=5, horizon=20)
    assert not found.comparisons and not found.guards and "No arm was tested" in found.conclusion.statement
    assert str(found) and found._repr_html_() and report.to_html(report.build(tmp_path))


@pytest.mark.parametrize("idle", [Ablate("4"), ClipGradient(1e9)])
def test_a_change_of_a_factorial_that_never_acted_is_called_that(idle, pool, reference, tmp_path):
    guilty = Knob("pool", "none")
    found = trial(
        reference("recipes_tiny", "spare"),
        factorial([idle, guilty]),
        folder=tmp_path,
        executor=pool,
        seeds=4,
        horizon=40,
    )
    (c,) = found.effects
    assert c.arm == "pool=none" and math.isfinite(c.effect) and c.verdict != "inconclusive"
    assert found.conclusion.inert[0] == name_of(idle)
    assert f"Never acted, so not tested: {name_of(idle)}" in found.conclusion.statement
    assert "1000 seeds" not in found.conclusion.next and "Undefined" not in found.conclusion.next


@pytest.mark.parametrize("resolution", [None, 4])
def test_in_a_fraction_a_change_is_asked_itself(resolution):
    of = factorial([Ablate("a"), ClipGradient(1e9), Knob("k", 1), Ablate("b")], resolution)
    results = {}
    for row, run in zip(of.levels, of.runs, strict=True):
        late = [i for i in range(4) if row[i] and i != 2]
        acted = [[] if i == 1 else ["x"] for i in late]
        state = str([row[i] for i in (0, 2, 3)])
        results[run, 0] = record(1.0, state=state) | {"acted": acted}
    assert inert_changes(of, (0,), "m", results) == ("gradient norm clipped to 1e+09",)
    for run in of.runs[1:]:
        results[run, 0] = record(math.nan)
    results["control", 0] = record(math.nan)
    assert resolution or inert_changes(of, (0,), "m", results) == (), "it can't be told"


@pytest.mark.parametrize("dead", [1, 2])
def test_a_seed_at_which_both_sides_die_says_nothing_about_whether_an_arm_acted(dead):
    records = [record(math.nan if seed < dead else 1.0) for seed in range(3)]
    results = {(name, seed): records[seed] for name in ("control", "a") for seed in range(3)}
    assert inert([Arm("a")], range(3), "m", results) == ("a",)
    results["a", 2] = record(2.0, state="other")
    assert inert([Arm("a")], range(3), "m", results) == ()
    results["a", 0] = {"status": "failed", "error": "it never acted", "untested": True}
    assert inert([Arm("a")], range(3), "m", results) == ("a",)


def record(value, state="same"):
    return {"status": "done", "error": None, "metrics": {"m": value}, "state": state, "acted": [["x"]]}
