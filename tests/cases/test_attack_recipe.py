"""The recipe keeps the contract of a training, forks in the middle of an image, and its weights go to small losses."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from pitprop.cases.timestep_attack import classifiers
from pitprop.cases.timestep_attack import recipe as recipes
from pitprop.cases.timestep_attack.denoiser import PixelBackbone, UNet
from pitprop.cases.timestep_attack.recipe import Knobs, WeightTraining, recipe
from pitprop.checks import Subject
from pitprop.checks.no_gradient import CHECK
from pitprop.trials.fork import capture, restore
from pitprop.trials.knobs import alternatives

QUICK = Knobs(iterations=4)


@pytest.fixture(autouse=True, scope="module")
def small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PITPROP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(classifiers, "STEPS", 30)
        torch.manual_seed(0)
        parts = (PixelBackbone(UNet(1, 8)), classifiers.load("digits"))
        patch.setattr(recipes, "known", lambda _steps: parts)
        yield


def run(training: WeightTraining, first: int, last: int) -> WeightTraining:
    for batch in islice(training.batches(first), last - first):
        training.step(batch)
    return training


def test_an_image_takes_one_step_less_than_it_has_iterations():
    training = WeightTraining(0, QUICK)
    batches = list(islice(training.batches(0), 7))
    assert [batch.iteration for batch in batches] == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(batches[0].image, batches[2].image) and not torch.equal(batches[2].image, batches[3].image)
    jumped = next(training.batches(5))
    assert jumped.iteration == 2 and torch.equal(jumped.image, batches[5].image)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["learnable", "fixed", "kl"])
def test_it_forks_in_the_middle_of_an_image(mode):
    knobs = replace(QUICK, mode=mode)
    straight = run(WeightTraining(0, knobs), 0, 6)
    half = run(WeightTraining(0, knobs), 0, 4)
    fresh = WeightTraining(0, knobs)
    assert restore(fresh, capture(half, 4)) == 4
    other = run(fresh, 4, 6)
    assert capture(other, 6)["training"].keys() == capture(straight, 6)["training"].keys()
    for one, two in zip(straight.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert straight.evaluate() == other.evaluate()


def test_a_step_returns_what_the_watch_reads_and_evaluation_holds_every_guard():
    training = WeightTraining(0, QUICK)
    assert set(training.evaluate()) == {recipe.metric, *recipe.guards}
    seen = training.step(next(training.batches(0)))
    assert seen["weights"].shape == seen["losses"].shape == (5,)
    assert float(seen["losses"].min()) > 0 and isinstance(seen["loss"], float)
    assert float(seen["weights"].sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("mode", "moves"), [("learnable", True), ("learnable_detached", False), ("uniform", False)])
def test_only_what_is_trained_moves(mode, moves):
    measured = run(WeightTraining(0, replace(QUICK, mode=mode)), 0, 4).evaluate()
    assert (measured["motion"] > 0) is moves
    assert measured["success"] in (0.0, 1.0)


def test_learnable_weights_go_to_the_small_losses():
    training = WeightTraining(0, replace(QUICK, weight_lr=3e-2))
    before, losses = training.start, []
    for batch in islice(training.batches(0), 9):
        losses.append(training.step(batch)["losses"])
    mean = torch.stack(losses).mean(0)
    assert float(training._weights() @ mean) < float(before @ mean)


@pytest.mark.slow
def test_the_check_names_the_parameters_that_nothing_trains():
    named = {}
    for cross in ("dead", "wired"):
        training = WeightTraining(0, replace(QUICK, cross_weights=cross))

        def step(_model, batch, training=training):
            return training.step(batch)

        subject = Subject(model=training.model, batches=tuple(islice(training.batches(0), 1)), loss_fn=step)
        named[cross] = [finding.site for finding in CHECK.run(subject)]
    assert named == {"dead": ["network.cross_attention"], "wired": []}


def test_the_knobs_declare_the_modes_that_a_diagnosis_tries():
    tried = alternatives(recipe, Knobs())
    assert ("mode", "fixed") in tried and ("mode", "kl") in tried and ("cross_weights", "wired") in tried
    assert ("mode", "learnable") not in tried
