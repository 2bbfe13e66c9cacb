"""Base, loops, experiment, recipe and claims on a tiny system."""

import math
from dataclasses import replace
from itertools import islice

import clip_small
import pytest
import torch
from clip_small import DATA, QUICK, SETTINGS

from pitprop.cases.clip_anomaly import recipe as recipe_module
from pitprop.cases.clip_anomaly.arms import NORMS, SCALES, Arm, at, claim_arms, story
from pitprop.cases.clip_anomaly.cross_attention import VARIANTS
from pitprop.cases.clip_anomaly.experiment import gradient_ladder, run_arm, run_arms
from pitprop.cases.clip_anomaly.pictures import draw
from pitprop.cases.clip_anomaly.recipe import Knobs, StageTwo, injection, recipe
from pitprop.cases.clip_anomaly.stages import base, images, loaded, train
from pitprop.trials.knobs import alternatives

own_cache = clip_small.own_cache


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(recipe_module, "data_of", lambda knobs: DATA)


def test_the_base_is_loaded_and_the_cross_attention_is_not(small):
    one, two = loaded(DATA, 0, VARIANTS["A"], 1.0), loaded(DATA, 1, VARIANTS["A"], 1.0)
    stored = base(DATA)
    assert stored and all(name.split(".")[0] in ("text_adapter", "image_adapter") for name in stored)
    assert all(torch.equal(one.state_dict()[name], value) for name, value in stored.items())
    assert one.image_cross_attn is not None and two.image_cross_attn is not None
    assert not torch.equal(one.image_cross_attn.q_proj.weight, two.image_cross_attn.q_proj.weight)


def test_each_loop_trains_both_stages_and_the_second_sees_the_adapters(monkeypatch):
    seen = []
    model = loaded(DATA, 0, VARIANTS["C"], 10.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    original = type(model).trained_context
    monkeypatch.setattr(type(model), "trained_context", lambda self, batch: seen.append(1) or original(self, batch))
    loops = []
    logs = train(replace(QUICK, num_feedback_loops=2), [model], images(DATA)[0], [0], after_loop=loops.append)
    assert loops == [1, 2] and len(logs) == 2 and len(seen) == 1
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"text_adapter", "text_cross_attn", "image_adapter", "image_cross_attn", "text_context"} <= moved
    assert "clip" not in moved


def test_an_arm_is_measured_on_every_seed():
    found = run_arm(Arm(injection=VARIANTS["E"], context_norm=50.0), SETTINGS)
    assert len(found["loss_first"]) == len(found["last"]["pixel_auroc"]) == 2
    assert found["raw_norm"]["first"][0] > 1 and found["last"]["branch_ratio"][0] > 0
    assert set(found["gradient_norms"]) == {"image_adapter", "image_cross_attn"}


def test_scaled_gradients_are_logged_as_they_were():
    plain, tenfold = (run_arm(Arm(injection=None, loss_factor=factor), SETTINGS) for factor in (1.0, 10.0))
    ratio = (
        tenfold["gradient_norms"]["image_adapter"]["start"][0] / plain["gradient_norms"]["image_adapter"]["start"][0]
    )
    assert ratio == pytest.approx(10, rel=0.05)
    assert tenfold["loss_first"] == pytest.approx(plain["loss_first"], rel=1e-4)
    assert math.isnan(plain["raw_norm"]["first"][0])


def test_arms_are_compared_with_the_base_by_seed():
    arms = {name: arm for name, arm in story(50.0).items() if name in ("none", at("B", 50.0))}
    found = run_arms(arms, SETTINGS)
    (comparison,) = found["comparisons"]
    base_, treated = (found["arms"][name]["last"]["pixel_auroc"] for name in arms)
    assert comparison["arm"] == at("B", 50.0)
    assert comparison["effect"] == pytest.approx(sum(treated) / 2 - sum(base_) / 2)


def test_pictures_and_gradient_ladder(tmp_path):
    arms = {name: arm for name, arm in story(50.0).items() if name in ("none", at("A", 50.0), at("D", 50.0))}
    found = run_arms(arms, SETTINGS)
    ladder = gradient_ladder(arms, SETTINGS)
    assert set(ladder) == {at("A", 50.0)}  # a branch that is exactly zero at the start has no ratio to show
    shown = ladder[at("A", 50.0)]
    assert len(shown["with"]) == 20 and shown["single"][0] <= shown["ratio"][0] <= shown["single"][1]
    assert [path.stat().st_size > 5000 for path in draw({**found, "gradients": ladder}, SETTINGS, tmp_path)] == [
        True
    ] * 3


def test_the_arms_are_the_grid_of_context_norm_and_scale():
    names = {**story(50.0), **claim_arms(50.0)}
    for norm in NORMS:
        weights = {a.injection.weight for a in names.values() if a.injection and a.context_norm == norm
                   and not (a.injection.norm_match or a.injection.normalise or a.injection.zero_init)}  # fmt: skip
        assert set(SCALES) <= weights
    assert sum(arm.loops == 3 for arm in names.values()) == 3


def test_the_knobs_change_the_variant():
    assert injection(Knobs()) == VARIANTS["A"]
    assert injection(Knobs(variant="none", normalise=True)) is None
    assert injection(Knobs(cross_attention_weight=0.1, normalise=True, norm_match=True)) == VARIANTS["C"]
    assert injection(Knobs(variant="B", learned="scalar")) == VARIANTS["E"]
    declared = {name for name, _ in alternatives(recipe, Knobs())}
    assert declared == {"variant", "context_norm", "normalise", "norm_match"}


def test_batches_are_a_function_of_seed_and_cursor(small):
    training = StageTwo(0, Knobs(batch_size=2))
    straight = list(islice(training.batches(62), 4))
    jumped = next(training.batches(65))
    assert torch.equal(straight[3].image, jumped.image)
    assert not torch.equal(straight[0].image, straight[1].image)


def test_stage_2_trains_the_image_side_alone_and_evaluation_changes_nothing(small):
    training = StageTwo(0, Knobs(batch_size=2, context_norm=1))
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    rng = torch.get_rng_state()
    measured = training.evaluate()
    assert {recipe.metric, *(guard.partition("=")[0] for guard in recipe.guards)} <= set(measured)
    assert torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
    training.step(next(training.batches(0)))
    moved = {name.split(".")[0] for name, value in training.model.state_dict().items()
             if not torch.equal(value, before[name])}  # fmt: skip
    assert moved == {"image_adapter", "image_cross_attn"}


def test_the_same_seed_gives_the_same_run(small):
    def run(seed):
        training = StageTwo(seed, Knobs(batch_size=2))
        return [float(training.step(batch)["loss"]) for batch in islice(training.batches(0), 2)]

    assert run(0) == run(0) != run(1)
