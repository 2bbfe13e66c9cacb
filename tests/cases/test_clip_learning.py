"""What tells a stage that learns from a slow one and from a stalled one, and the claims that hang on it."""

from dataclasses import replace

import clip_small
import numpy as np
import pytest
from clip_small import DATA, QUICK, SETTINGS

from pitprop.cases._claims import load_results
from pitprop.cases.clip_anomaly import judges, learning
from pitprop.cases.clip_anomaly.arms import BASE, FROZEN, at, learning_arms
from pitprop.cases.clip_anomaly.claims import CLIP
from pitprop.cases.clip_anomaly.experiment import Settings, comparisons, run_arm
from pitprop.cases.clip_anomaly.learning import digest, pace, run_part

HIGH = 50.0
own_cache = clip_small.own_cache


def measured(**arms):
    """Results of five seeds with these pixel AUROCs, each over the seeds' own noise."""
    noise = np.random.default_rng(100).normal(0, 0.002, (len(arms), 5))
    return {
        "arms": {
            name: {"last": {"pixel_auroc": (value + own).tolist()}}
            for (name, value), own in zip(arms.items(), noise, strict=True)
        }
    }


@pytest.mark.parametrize(
    ("value", "word"), [(0.70, "learns"), (0.75, "learns"), (0.65, "slow"), (0.60, "stalls"), (0.50, "falls below")]
)
def test_the_pace_of_an_arm_is_told_by_the_control_and_by_frozen_adapters(value, word):
    assert pace(measured(**{BASE: 0.70, FROZEN: 0.60, "arm": value}), "arm") == word


def test_beside_a_control_that_gains_nothing_no_pace_is_told():
    for value in (0.60, 0.50, 0.70):
        assert pace(measured(**{BASE: 0.605, FROZEN: 0.60, "arm": value}), "arm") == "open"


def test_an_interval_too_wide_is_open():
    results = measured(**{BASE: 0.70, FROZEN: 0.60, "arm": 0.65})
    results["arms"]["arm"]["last"]["pixel_auroc"] = [0.5, 0.8, 0.5, 0.8, 0.65]
    assert pace(results, "arm") == "open"


def test_what_is_frozen_stays_and_the_rest_moves():
    arms = learning_arms(HIGH)
    still = run_arm(arms[FROZEN], SETTINGS)
    assert still["first"] == still["last"]
    branch = run_arm(arms[at("A, cross-attention frozen", HIGH)], SETTINGS)
    assert branch["raw_norm"]["first"] == branch["raw_norm"]["last"]
    assert branch["first"]["loss"] != branch["last"]["loss"]


def test_the_arms_are_run_from_the_early_base(monkeypatch):
    monkeypatch.setattr(learning, "EARLY", DATA)
    monkeypatch.setattr(learning, "learning_arms", lambda norm: {n: learning_arms(norm)[n] for n in (BASE, FROZEN)})
    found = run_part("learning", SETTINGS, HIGH, ("a", "command"))
    assert set(found["arms"]) == {BASE, FROZEN} and len(found["arms"][BASE]["last"]["pixel_auroc"]) == 2
    assert found["references"]["loaded base"]["pixel_auroc"] == found["arms"][FROZEN]["last"]["pixel_auroc"][0]
    settings = found["provenance"]["settings"]
    assert settings["schedule"]["image_steps"] == learning.TIMES * QUICK.image_steps
    assert found["base"] == digest(DATA) != digest(replace(DATA, base=replace(DATA.base, image_steps=1)))


@pytest.fixture
def stored():
    return load_results(CLIP)


def rejudged(stored, judge):
    seeds = Settings(seeds=tuple(stored["provenance"]["settings"]["seeds"]))
    stored["learning"]["comparisons"] = comparisons(stored["learning"]["arms"], seeds)
    return judge(stored).verdict


@pytest.mark.parametrize("judge", [judges.c6, judges.c7, judges.c9, judges.c10, judges.c13])
def test_claims_on_learning_are_open_where_the_control_learned_nothing(stored, judge):
    arms = stored["learning"]["arms"]
    arms[BASE]["last"]["pixel_auroc"] = arms[FROZEN]["last"]["pixel_auroc"]
    assert rejudged(stored, judge) == "OPEN"


def test_an_adapter_that_stays_frozen_would_confirm_that_it_cannot_learn(stored):
    arms = stored["learning"]["arms"]
    arms["adapter gradients x0.375"]["last"] = arms[FROZEN]["last"]
    assert rejudged(stored, judges.c6) == "CONFIRMED"


def test_a_fix_that_beats_the_control_and_harms_no_finished_base_would_confirm_it(stored):
    arms, fixed = stored["learning"]["arms"], [*(at("B", norm) for norm in (1.0, 10.0, 50.0)), at("C", HIGH)]
    for arm in fixed:
        arms[arm]["last"]["pixel_auroc"] = [value + 0.05 for value in arms[BASE]["last"]["pixel_auroc"]]
    assert rejudged(stored, judges.c9) == "HALF"  # B harms the finished base
    for comparison in stored["comparisons"]:
        if comparison["arm"] in fixed:
            comparison["verdict"] = "no difference within margin"
    assert rejudged(stored, judges.c9) == "CONFIRMED"


def test_levels_are_shown_with_their_range_and_changes_with_their_interval():
    losses = [3.01834, 4.28279, 5.03159, 3.98859, 4.58537]
    assert judges.level(losses) == "4.18 (3.02 to 5.03)"
    assert judges.change([0.1, 0.2, 0.3], ".2f") == "+0.20 [-0.05, 0.45]"  # 0.2 -+ 4.303 x 0.1 / sqrt(3)
