"""Arms that never acted, of which nothing is learnt, and the recipe's own guards: through `trial`, end to end."""

import json
import math

import pytest

from pitprop import report
from pitprop.trials import Arm, trial
from pitprop.trials.interventions import Ablate, ClipGradient, Freeze, Knob
from pitprop.trials.judge import inert

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
