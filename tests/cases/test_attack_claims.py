"""Verdicts and sentences follow the numbers: what is stored, and the same with one thing changed."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from pitprop.cases._claims import load_results, plain
from pitprop.cases.timestep_attack import foretold, judges, prose, replays
from pitprop.cases.timestep_attack.claims import ATTACK
from pitprop.cases.timestep_attack.experiment import Plan
from pitprop.cases.timestep_attack.settings import LAPTOP


@pytest.fixture
def results():
    return deepcopy(load_results(ATTACK))


def test_the_smallest_losses_weight_has_to_rise_for_the_claim_that_it_does(results):
    assert judges.c5(results).verdict == "HALF"
    long = results["long_run"]
    lowest = int(np.argmin(long["losses"]))
    for path in long["weights"]:
        path[-1] = np.eye(5)[lowest].tolist()
    assert judges.c5(results).verdict == "CONFIRMED" and "lower than it began in 0" in judges.c5(results).evidence
    for path in long["weights"]:
        path[-1] = np.eye(5)[int(np.argmax(long["losses"]))].tolist()
    assert judges.c5(results).verdict == "REFUTED"


def test_the_scale_is_judged_where_the_weights_have_collapsed_too(results):
    assert judges.c15(results).verdict == "CONFIRMED"
    adam = results["replays"]["gamma"]["adam"]
    adam["difference"][-1] = [0.02] * len(adam["difference"][-1])
    assert judges.c15(results).verdict == "HALF"
    adam["difference"][-1] = [1.0] * len(adam["difference"][-1])
    assert judges.c15(results).verdict == "REFUTED"


def test_a_wrong_vertex_is_said_and_a_right_one_needs_no_reason(results):
    said = " ".join(foretold.vertex(results))
    assert "The timestep was wrong in 10 of 10 networks" in said and "Adam not made anew" in said
    assert "epsilon on neither" in said
    results["replays"]["decides"]["mean image, eps 1e-20"]["ends"] = [10, 0, 0, 0, 0]
    assert "epsilon on neither" not in " ".join(foretold.vertex(results))
    results["predicted"]["smallest"] = 1
    assert "wrong" not in " ".join(foretold.vertex(results))


def test_alarms_of_weights_that_do_not_collapse_are_called_false(results):
    said = " ".join(foretold.alarms(results))
    assert "False alarms: 4 of the 5" in said and "right in 8 of 10" in said and "Silent: `dro`" in said
    results["streams"]["kl"]["weights"][-1] = [0.0, 1.0, 0.0, 0.0, 0.0]
    assert "False alarms: 3 of the 5" in " ".join(foretold.alarms(results))


def test_it_is_said_whether_the_late_images_are_new_to_what_is_attacked(results):
    assert "All of them are training images" in prose.prose(results)
    results["long_run"]["test_images"] = 700
    assert "300 of them are training images" in prose.prose(results)


def test_where_no_image_differs_there_is_no_interval_of_no_width(results):
    assert "[+0.00, +0.00]" not in prose.prose(results) and "+0 [+0, +0]" not in judges.c12(results).evidence
    [same] = [c for c in results["comparisons"] if (c["arm"], c["metric"]) == ("kl", "success")]
    fixed, kl = (np.array(results["streams"][name]["success"]) for name in ("fixed", "kl"))
    assert np.array_equal(fixed, kl) and not judges.differs(same)
    assert "| no image differs (of 100) |" in prose.prose(results) and "at most 3.0 % of images" in prose.prose(results)
    assert judges.differs(same | {"low": -0.03, "high": 0.03})


def test_replays_are_what_the_judges_read(results, monkeypatch):
    """Three images of two iterations, the second ten times the first; few networks, few images."""
    monkeypatch.setattr(replays, "SEEDS", 2)
    monkeypatch.setattr(replays, "MARKS", (1, 10, 20))
    monkeypatch.setattr(replays, "GAMMA_MARKS", (5, 10, 20))
    losses = 1e-4 * np.array([[1.0, 2, 3, 4, 5], [20, 10, 30, 40, 50]] * 3)
    plan = Plan(lr=3e-2, attack=replace(LAPTOP, iterations=2))
    found = plain(replays.replays(losses, plan))
    arms = found["decides"]
    assert set(arms) == set(foretold.ARMS) and np.shape(found["path"]) == (3, 5)
    assert all(sum(arm["ends"]) == 2 for arm in arms.values())
    assert arms["mean iteration"]["ends"] == [0, 2, 0, 0, 0]  # 10.5, 6: the second has the smaller mean
    assert arms["as measured"]["images"] == 20 and np.shape(found["gamma"]["adam"]["difference"]) == (3, 2)
    assert found["gamma"]["sgd"]["100"] > found["gamma"]["sgd"]["1"]
    results["replays"] = found
    assert "2 networks" in judges.c15(results).evidence and "2 networks each" in " ".join(foretold.vertex(results))
