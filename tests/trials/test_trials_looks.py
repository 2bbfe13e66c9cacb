"""Looks at one arm: counted by the folder's answers, and together they err at most 5 %."""

import dataclasses
import json

import numpy as np
import pytest

from pitprop.trials import Arm, Plan, diagnose, trial
from pitprop.trials.interval import bounds
from pitprop.trials.interventions import Knob, LearningRate
from pitprop.trials.judge import judge
from pitprop.trials.looks import ALPHA, for_the_next, numbered, share

FIRST, SECOND = Arm("a", (LearningRate(0.1),)), Arm("b", (LearningRate(0.5),))
PLAN = Plan(recipe="a.py:r", source="s", arms=(FIRST,), seeds=(0, 1), metric="m", horizon=10)


def answer(folder, plan):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trial.json").write_text(json.dumps({"plan": plan.to_dict()}))
    return plan


def test_the_shares_are_all_of_the_error():
    assert sum(map(share, range(1, 60))) == pytest.approx(1) and share(0) == 1
    assert [1 - ALPHA * share(k) for k in (1, 2, 3)] == pytest.approx([0.96, 0.992, 0.9984])


def test_more_seeds_are_another_look_and_the_same_plan_is_not(tmp_path):
    first = answer(tmp_path / "earlier" / "x", numbered(PLAN, tmp_path))
    more = dataclasses.replace(PLAN, seeds=(0, 1, 2), early_stop=True)
    second = answer(tmp_path, numbered(more, tmp_path))
    assert (first.look, second.look) == (1, 2)
    assert numbered(PLAN, tmp_path) == first and numbered(more, tmp_path) == second, "resumed"
    assert numbered(dataclasses.replace(PLAN, seeds=(0, 1, 2, 3)), tmp_path).look == 3


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ({"metric": "n"}, 1),
        ({"arms": (SECOND,)}, 1),
        ({"knobs": {"lr": 1}}, 1),
        ({"source": "t"}, 1),
        # What would let the same question be asked again for nothing.
        ({"arms": (Arm("renamed", FIRST.interventions),), "seeds": (2, 3)}, 2),
        ({"arms": (FIRST, SECOND), "seeds": (0, 1, 2)}, 2),
        ({"margin": 0.1, "seeds": (0, 1, 2)}, 2),
    ],
)
def test_another_question_is_no_look(change, look, tmp_path):
    answer(tmp_path, numbered(PLAN, tmp_path))
    assert numbered(dataclasses.replace(PLAN, **change), tmp_path).look == look


def test_a_trial_that_adds_seeds_says_so(pool, reference, tmp_path):
    guilty = reference("recipes_tiny", "guilty")
    given = {"folder": tmp_path, "executor": pool, "horizon": 20}
    looks = [trial(guilty, [Knob("pool", "none")], seeds=seeds, **given) for seeds in (2, 3, 2, 3)]
    assert [found.plan.look for found in looks] == [1, 2, 1, 2]
    assert [found.comparisons[0].confidence for found in looks] == pytest.approx([0.96, 0.992] * 2)
    assert "look 2 at these arms" in looks[1].conclusion.statement and "99.2 %" in looks[1].conclusion.statement
    assert "look" not in looks[0].conclusion.statement
    assert looks[0].plan.hash == looks[2].plan.hash and looks[1].plan.hash == looks[3].plan.hash
    assert json.loads((tmp_path / "plan.json").read_text())["look"] == 2


@pytest.mark.slow
def test_a_diagnosis_with_more_seeds_is_another_look(pool, reference, tmp_path):
    guilty = reference("recipes_tiny", "guilty")
    found = [diagnose(guilty, seeds=seeds, folder=tmp_path, executor=pool) for seeds in (4, 5, 4)]
    assert [diagnosis.plan.look for diagnosis in found] == [0, 2, 0]
    assert [diagnosis.confirm[0].confidence for diagnosis in found] == pytest.approx([0.95, 0.992, 0.95])
    arms = len(found[0].screen)
    assert [diagnosis.screen[0].confidence for diagnosis in found[:2]] == pytest.approx(
        [1 - 0.05 / arms, 1 - 0.008 / arms]
    )
    assert [diagnosis.guards[0].confidence for diagnosis in found[:2]] == pytest.approx([0.95, 0.992])
    assert found[0].plan.hash == found[2].plan.hash, "the same diagnosis again is no look"


def test_what_may_settle_it_is_counted_at_the_level_of_the_next_look():
    plan = dataclasses.replace(PLAN, seeds=tuple(range(6)), look=1)
    (c,) = judge(plan, plan.arms, plan.seeds, records([0.0] * 6, [1.0, -0.6, 1.2, 0.2, 0.9, -0.2]))
    later = for_the_next(c, plan).further_seeds
    assert c.verdict == "inconclusive" and later > c.further_seeds
    assert for_the_next(c, dataclasses.replace(plan, look=0)).further_seeds > c.further_seeds


def records(control, treated):
    made = {}
    for name, values in (("control", control), ("a", treated)):
        made |= {(name, i): {"status": "done", "metrics": {"m": float(v)}} for i, v in enumerate(values)}
    return made


@pytest.mark.slow
def test_adding_seeds_until_it_is_settled_errs_at_most_5_percent():
    """3000 arms that do nothing, looked at up to 7 times (after 4, 8, ... 28 seeds) until they are better or worse."""
    treated = np.random.default_rng(0).normal(size=(3000, 28))
    wrong = {}
    for counted in (0, 1):
        wrong[counted] = np.zeros(3000, bool)
        for look, count in enumerate(range(4, 29, 4), 1):
            plan = dataclasses.replace(PLAN, seeds=tuple(range(count)), look=look * counted)
            (c,) = judge(plan, plan.arms, plan.seeds, records([0.0] * count, treated[0, :count]))
            low, high = bounds(treated[:, :count], c.confidence)
            assert (c.low, c.high) == pytest.approx((low[0], high[0]))
            wrong[counted] |= (low > 0) | (high < 0)
    assert wrong[0].mean() > 0.1, "without the shares it errs more than twice as often as it says"
    assert wrong[1].mean() <= 0.05
