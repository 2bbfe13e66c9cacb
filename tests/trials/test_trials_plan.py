"""The plan's hash is stable, sees every field, and survives the way through JSON."""

import dataclasses
import json
import math

import pytest

from pitprop import PitpropError
from pitprop.trials import Arm, Plan
from pitprop.trials.execute import spec_of
from pitprop.trials.interventions import ClipGradient, Knob, Scale

PLAN = Plan(
    recipe="a.py:r",
    source="s",
    knobs={"lr": 0.1, "gate": "none"},
    arms=(Arm("gate", (Knob("gate", "pooled"),)), Arm("scale", (Scale("x", 0.5), Knob("lr", 0.2)))),
    seeds=(0, 1),
    metric="m",
    horizon=10,
    confirm_seeds=(2, 3),
    confirm_arms=1,
)


def test_hash_is_the_same_on_every_machine_and_day():
    assert PLAN.hash == "0e41a5e65ca676168de6c6cf56f21d5cc8b33ca8487705fa811fb02bddde7bdb"


def test_round_trip():
    again = Plan.from_dict(json.loads(json.dumps(PLAN.to_dict())))
    assert again == PLAN and again.hash == PLAN.hash


def test_order_of_knobs_does_not_matter():
    assert dataclasses.replace(PLAN, knobs={"gate": "none", "lr": 0.1}).hash == PLAN.hash


OTHER = {
    "recipe": "b.py:r",
    "source": "t",
    "knobs": {"lr": 0.1},
    "arms": PLAN.arms[:1],
    "seeds": (0, 4),
    "metric": "n",
    "higher_is_better": False,
    "margin": 0.1,
    "horizon": 11,
    "fork_step": 1,
    "confirm_seeds": (),
    "confirm_arms": 2,
    "guards": ("loss=lower",),
    "early_stop": True,
    "look": 2,
}


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Plan)])
def test_hash_sees_every_field(name):
    assert dataclasses.replace(PLAN, **{name: OTHER[name]}).hash != PLAN.hash


@pytest.mark.parametrize(
    "change",
    [{"arms": (Arm("a"), Arm("a"))}, {"arms": (Arm("control"),)}, {"seeds": ()}, {"confirm_seeds": (1,)}],
)
def test_an_ambiguous_plan_is_an_error(change):
    with pytest.raises(PitpropError):
        dataclasses.replace(PLAN, **change)


def test_run_address_is_content_not_name():
    arm = PLAN.arms[0]
    same = spec_of(PLAN, Arm("another name", arm.interventions), 0)
    assert same.address == spec_of(PLAN, arm, 0).address
    others = [
        spec_of(PLAN, arm, 1),
        spec_of(PLAN, PLAN.arms[1], 0),
        spec_of(dataclasses.replace(PLAN, horizon=9), arm, 0),
    ]
    assert len({same.address, *(spec.address for spec in others)}) == 4


def test_description_states_every_change():
    assert PLAN.arms[1].describe() == "output of x multiplied by 0.5; knob lr = 0.2"
    assert PLAN.to_dict()["arms"][1]["changes"] == PLAN.arms[1].describe()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"margin": math.nan}, "`margin` is nan"),
        ({"margin": math.inf}, "`margin` is inf"),
        ({"arms": (Arm("a", (Scale("x", math.nan),)),)}, "`factor` is nan"),
        ({"arms": (Arm("a", (ClipGradient(math.inf),)),)}, "`max_norm` is inf"),
        ({"knobs": {"betas": (0.1, -math.inf)}}, "`betas` is -inf"),
        ({"margin": -1.0}, "margin of -1"),
    ],
)
def test_numbers_that_nothing_can_be_judged_by_are_refused(change, named):
    with pytest.raises(PitpropError) as refused:
        dataclasses.replace(PLAN, **change)
    assert named in str(refused.value) and "Do: " in str(refused.value)


def test_a_run_with_a_number_that_is_not_finite_has_no_address():
    with pytest.raises(PitpropError, match="`lr` is nan"):
        _ = dataclasses.replace(spec_of(PLAN, PLAN.arms[0], 0), knobs={"lr": math.nan}).address
