"""What a plain trial says, and how its report and its cell show it."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from pitprop import report
from pitprop.report.wording import span
from pitprop.trials import Arm, Plan, compare
from pitprop.trials.designs import effects, factorial
from pitprop.trials.guards import Guard
from pitprop.trials.interventions import LearningRate, Scale
from pitprop.trials.result import Trial
from pitprop.trials.summary import summarise

NAN = math.nan
SEEDS = tuple(range(8))


def comparison(arm, treated, margin=0.1):
    return compare([0.0] * 8, treated, arm=arm, changes=arm, seeds=SEEDS, metric="m", margin=margin)


BETTER = comparison("good", np.linspace(0.9, 1.1, 8))
WORSE = comparison("bad", np.linspace(-1.1, -0.9, 8))
SAME = comparison("same", [0.0] * 8)
OPEN = comparison("open", [1, -1, 0.6, -0.7, 1.1, -0.9, 0.8, -0.6])
LOST = comparison("boom=True", [NAN] * 8)


def trial_of(tmp_path, *comparisons, design=None, factors=(), guards=(), inert=()):
    arms = tuple(Arm(c.arm, (Scale(c.arm, 0.5),)) for c in comparisons)
    plan = Plan(recipe="r.py:r", source="", arms=arms, seeds=SEEDS, metric="m", horizon=5, look=1)
    said = summarise(plan, comparisons, factors, design, guards, inert)
    found = Trial(folder=tmp_path, plan=plan, comparisons=comparisons, effects=factors, guards=guards, conclusion=said)
    (tmp_path / "trial.json").write_text(json.dumps(found.to_dict()))
    return found


def printed(folder, width=120):
    file = io.StringIO()
    report.to_text(report.build(folder), Console(file=file, width=width))
    return file.getvalue()


def test_nothing_that_helped_is_not_nothing_that_helps(tmp_path):
    found = trial_of(tmp_path, WORSE, OPEN, SAME)
    assert found.conclusion.statement.startswith("None of 3 arms is shown to make m better")
    headline = report.build(tmp_path).headline
    assert headline.fixes == "None shown to help; 1 inconclusive." and headline.tone == "warning"


def test_a_plain_trial_exonerates_nobody(tmp_path):
    found = trial_of(tmp_path, BETTER, SAME)
    everything = (printed(tmp_path) + report.to_html(report.build(tmp_path)) + str(found)).lower()
    assert "no difference within the margin: same" in everything and found.conclusion.exonerated == ()
    assert "exonerated:" not in everything and "<b>exonerated</b>" not in everything


def test_an_arm_that_did_nothing_was_not_tested(tmp_path):
    found = trial_of(tmp_path, BETTER, inert=("same",))  # it is compared with nothing
    assert found.conclusion.inert == ("same",) and found.conclusion.exonerated == ()
    assert (
        "Never acted, so not tested: same" in found.conclusion.statement
        and "No difference" not in found.conclusion.statement
    )


def test_the_best_of_several_is_said_to_be_chosen(tmp_path):
    assert "likely overstated" in trial_of(tmp_path, BETTER, WORSE).conclusion.statement
    assert "likely overstated" not in trial_of(tmp_path, BETTER).conclusion.statement


def test_lost_runs_are_counted_where_there_is_no_effect(tmp_path):
    words = "8 of 8 runs lost, 0 of the control's"
    found = trial_of(tmp_path, LOST)
    assert f"Worse: boom=True, {words}." in found.conclusion.statement
    page = report.to_html(report.build(tmp_path)).replace("&#39;", "'")
    for shown in (str(found), printed(tmp_path), page, found._repr_html_().replace("&#39;", "'")):
        assert words in shown and "[undefined" not in shown
    assert span(NAN, NAN) == "undefined" and span(NAN, 1) == "[undefined, +1]"


def test_a_cell_shows_the_guards(tmp_path):
    guard = Guard(
        arm="good",
        metric="<loss>",
        control=(1.0,),
        treated=(2.0,),
        effect=1.0,
        low=0.5,
        high=1.5,
        seeds=(0,),
        verdict="worse",
    )
    cell = trial_of(tmp_path, BETTER, guards=(guard,))._repr_html_()
    assert "&lt;loss&gt;" in cell and "[+0.5, +1.5]" in cell and "<td>worse</td>" in cell
    assert "Beside it" not in trial_of(tmp_path, BETTER)._repr_html_()


def test_a_guard_that_is_lost_is_pointed_out(tmp_path):
    lost = {"control": (1.0,) * 8, "treated": (NAN,) * 8, "seeds": SEEDS, "verdict": "worse"}
    guard = Guard(arm="good", metric="loss", effect=NAN, low=NAN, high=NAN, **lost)
    said = trial_of(tmp_path, BETTER, guards=(guard,)).conclusion.statement
    assert "Beside it gets worse: loss (finite at 0 of 8 seeds, the control at 8) with good." in said


def test_a_factorial_with_a_change_that_kills_says_what_is_undefined_and_why(tmp_path):
    design = factorial([LearningRate(0.5), LearningRate(2.0)])
    outcomes = np.outer([0.0, NAN, 1.0, NAN], np.linspace(0.9, 1.1, 8))
    factors = effects(design, outcomes, seeds=SEEDS, metric="m")
    said = trial_of(tmp_path, LOST, design=design, factors=factors).conclusion
    half, double = design.names
    assert f"{half} finite at 0 of 8 seeds, the control at 8" in said.statement
    assert f"{double} (where {half} is not made) +1" in said.statement
    assert f"fewer than two seeds have a number on both sides: {half} x {double}" in said.next
    assert "1000 seeds" not in said.next


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_the_tables_of_a_factorial_have_names_of_their_own(scale, tmp_path):
    design = factorial([LearningRate(0.5), LearningRate(2.0)])
    outcomes = scale * np.outer(-np.arange(4), np.linspace(0.9, 1.1, 8))
    factors = effects(design, outcomes, seeds=SEEDS, metric="m")
    arms = [
        compare(outcomes[0], row, arm=arm.name, seeds=SEEDS, metric="m")
        for arm, row in zip(design.arms, outcomes[1:], strict=True)
    ]
    found = trial_of(tmp_path, *arms, design=design, factors=factors)
    assert found.conclusion.statement.startswith("None of 3 effects is shown to make m better over 8 seeds")
    for text in (str(found), printed(tmp_path)):
        assert text.count("Main effects and interactions · m") == text.count("Arms against the control · m") == 1
        first, second = text.split("Arms against the control")
        for part in (first.split("Main effects and interactions")[1], second):
            rows = [line for line in part.splitlines() if line.startswith("learning rate multiplied by 0.5 ")]
            assert len([line for line in rows if " x " not in line and "+ learning" not in line]) <= 1


def test_what_a_long_table_leaves_out_is_somewhere(tmp_path):
    trial_of(tmp_path, *(comparison(f"arm {i}", np.linspace(0.9, 1.1, 8)) for i in range(14)))
    assert "and 2 more, in trial.json" in printed(tmp_path)
