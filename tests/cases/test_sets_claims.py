"""What is said of the set diffusion's numbers: it changes with them."""

import copy

import pytest

from pitprop.cases._claims import load_results, plain
from pitprop.cases.set_diffusion import arms, judges, measurements
from pitprop.cases.set_diffusion.arms import LONG, ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.claims import SETS
from pitprop.cases.set_diffusion.prose import prose

SAME, UNSURE = "no difference within margin", "inconclusive"


@pytest.fixture
def results():
    return copy.deepcopy(load_results(SETS))


def give(results, verdict, *names, metrics=("context_use", "eval_loss")):
    for found in results["comparisons"]:
        if found["arm"] in names and found["metric"] in metrics:
            found["verdict"] = verdict


def test_stored_comparisons_are_those_of_the_stored_arms(results):
    settings = results["provenance"]["settings"]
    assert set(results["arms"]) == set(arms.ALL)
    again = measurements.compared(results["arms"], settings["seeds"], settings["steps"])
    assert plain(again) == results["comparisons"]


@pytest.mark.parametrize(
    ("judge", "names"),
    [
        (judges.c5, ("adaLN normal", judges.NORMAL)),
        (judges.c16, judges.in_both(judges.DOUBLED)),
    ],
)
def test_what_does_nothing_where_nothing_works_is_open_until_it_does_nothing_where_it_works(results, judge, names):
    give(results, SAME, *names)
    assert judge(results).verdict == "REFUTED"
    give(results, UNSURE, names[-1])
    assert judge(results).verdict == "OPEN"
    give(results, "better", names[-1], metrics=["eval_loss"])
    assert judge(results).verdict == "HALF"
    give(results, "better", *names)
    assert judge(results).verdict == "CONFIRMED"


def test_decay_that_was_tried_where_nothing_works_refutes_nothing(results):
    arms = (*judges.in_both(judges.WARMED), judges.DECAYED)
    give(results, SAME, *arms)
    assert judges.c21(results).verdict == "OPEN"
    give(results, "better", arms[1])
    assert judges.c21(results).verdict == "HALF"


def test_a_seed_whose_encoder_wakes_otherwise_is_counted(results):
    results["arms"][ORIGINAL]["encoder_gradient_first"][3] = [0, 0.1, 0.1, 0]
    judged = judges.c2(results)
    assert judged.verdict == "OPEN"
    assert "at steps 0 and 1 in 7 of 8 seeds, more at steps 2 and 3 in 7" in judged.evidence


def test_gates_without_a_gradient_refute_nothing(results):
    assert judges.c3(results).verdict == "REFUTED"
    results["statics"]["gates"][0][1] = 0
    judged = judges.c3(results)
    assert judged.verdict == "OPEN" and "more after it in 7" in judged.evidence


def test_what_as_many_sets_do_is_said_as_it_came_out(results):
    give(results, SAME, LONG)
    results["arms"][LONG]["steps_until_used"] = [2000] * 8
    assert "What is lost is pace" in prose(results) and "As many sets make up for all of it." in prose(results)
    give(results, "worse", LONG)
    results["arms"][LONG]["steps_until_used"] = [None] * 8
    text = prose(results)
    assert "**As many sets don't make up for all of it" in text and "What is lost is pace" not in text


def test_what_harms_is_named(results):
    for found in results["comparisons"]:
        found["verdict"] = "worse" if found["arm"] == "weight decay" and found["metric"] == "eval_loss" else SAME
    [line] = [line for line in prose(results).splitlines() if line.startswith("* **What harms")]
    assert "by held-out loss, against original" in line and line.count("(worse)") == 1
    assert "new classes, share recognised" in line
    for kind in results["generated"][SYNCHRONISED].values():
        for by_seed in kind:
            by_seed["recognised"] = dict.fromkeys(by_seed["recognised"], 1.0)
            by_seed["distance"] = dict.fromkeys(by_seed["distance"], 0.0)
    assert "Averaging draws worse images" not in prose(results)
