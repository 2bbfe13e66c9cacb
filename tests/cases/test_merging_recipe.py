"""The recipe keeps the contract of a training, and collapses for the reason that it is there to show."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from pitprop.cases.model_merging.evaluation import held_out
from pitprop.cases.model_merging.recipe import Knobs, Merging, recipe
from pitprop.cases.model_merging.zoo import load, pairs
from pitprop.trials.knobs import alternatives

QUICK = Knobs(batch_size=4, num_images=4, d_model=16, num_heads=2)


def digest(training: Merging) -> list[torch.Tensor]:
    return [p.detach().clone() for p in training.model.parameters()]


def run(seed: int, knobs: Knobs, steps: int) -> Merging:
    training = recipe.build(seed, knobs)
    for batch in islice(training.batches(0), steps):
        training.step(batch)
    return training


def test_batches_are_a_function_of_seed_and_cursor():
    training = Merging(0, QUICK)
    straight = list(islice(training.batches(0), 5))
    jumped = next(training.batches(4))
    assert all(torch.equal(a, b) for a, b in zip(straight[4], jumped, strict=True))
    assert not torch.equal(straight[0].parents, straight[1].parents)
    assert not torch.equal(straight[0].parents, next(Merging(1, QUICK).batches(0)).parents)


def test_batches_come_from_the_training_pairs_and_their_classes():
    batch = next(Merging(0, QUICK).batches(3))
    zoo, train = load(), pairs("train")
    for parents, target, labels in zip(batch.parents, batch.target, batch.labels, strict=True):
        member = int((zoo.weights == target).all(1).nonzero())
        assert zoo.classes[member, labels].all()
        rows = (train.union == member).nonzero().squeeze(1)
        assert any(
            torch.equal(parents, torch.cat([zoo.weights[train.first[r]], zoo.weights[train.second[r]]])) for r in rows
        )
    assert not any((batch.target == target).all(1).any() for target in held_out("test").target)


@pytest.mark.parametrize("objective", ["imitate", "task"])
def test_the_same_seed_gives_the_same_run(objective):
    knobs = replace(QUICK, objective=objective)
    one, two = digest(run(0, knobs, 3)), digest(run(0, knobs, 3))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, digest(run(1, knobs, 3)), strict=True))


def test_a_step_returns_what_the_watch_logs_and_moves_every_parameter():
    training = Merging(0, replace(QUICK, bottleneck="mean", dropout=0.0))
    before = digest(training)
    batch = next(training.batches(0))
    seen = training.step(batch)
    assert set(seen) == {"loss", "outputs", "targets"}
    assert seen["outputs"].shape == seen["targets"].shape == (4, 1232) and not seen["outputs"].requires_grad
    torch.testing.assert_close(seen["loss"], (seen["outputs"] - seen["targets"]).square().mean())
    moved = [not torch.equal(a, b) for a, b in zip(before, digest(training), strict=True)]
    assert sum(moved) >= len(moved) - 2  # key biases have no gradient: the softmax is blind to a shift


def test_evaluation_holds_the_metric_and_every_guard_and_changes_nothing():
    training = Merging(0, QUICK)
    before, rng = digest(training), torch.get_rng_state()
    measured = training.evaluate()
    assert {recipe.metric, *recipe.guards} <= set(measured)
    assert torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, digest(training), strict=True))


def test_the_knobs_declare_the_alternatives_that_a_diagnosis_tries():
    assert alternatives(recipe, Knobs()) == [
        ("bottleneck", "mean"),
        ("gate", "pooled"),
        ("gate", "elementwise"),
        ("gate", "headwise"),
        ("objective", "task"),
        ("attention", "uniform"),
    ]  # and not `clip`: every diagnosis tries clipping at 1.0 by itself


def test_the_stabiliser_bounds_the_gradient_where_it_is_asked_for():
    def norm(clip):
        training = run(0, replace(QUICK, clip=clip), 1)
        return torch.nn.utils.get_total_norm([p.grad for p in training.model.parameters()])

    free = norm(None)
    assert norm(1.0) == free < 1.0
    torch.testing.assert_close(norm(float(free) / 2), free / 2, rtol=1e-4, atol=0)


def test_its_references_frame_the_metric_and_the_accuracy():
    known = recipe.references()
    assert set(known) == {"constant mean", "parents' average", "CNN of the union"}
    assert all(set(values) == {recipe.metric, "merged_accuracy"} for values in known.values())
    assert known["constant mean"][recipe.metric] == 0 and known["constant mean"]["merged_accuracy"] > 0.9


def test_an_untrained_model_is_inside_the_margin_so_that_not_training_is_no_remedy():
    assert all(Merging(seed, Knobs()).evaluate()[recipe.metric] < recipe.margin for seed in range(3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_original_bottleneck_collapses_and_the_mean_does_not(seed):
    dead = run(seed, Knobs(), recipe.steps).evaluate()
    alive = run(seed, Knobs(bottleneck="mean"), recipe.steps).evaluate()
    assert dead["output_spread"] < 0.02 and dead["output_uniqueness"] < 0.1 and dead["saturated_share"] > 0.95
    assert dead["attention_entropy"] < 0.95  # and attention isn't uniform
    assert alive["output_spread"] > 0.15 and alive["output_uniqueness"] > 0.9


@pytest.mark.slow
def test_the_task_objective_collapses_without_saturation_and_stays_accurate():
    dead = run(0, Knobs(objective="task", bottleneck="mean"), recipe.steps).evaluate()
    assert dead["output_spread"] < recipe.margin and dead["output_uniqueness"] < 0.1
    assert dead["merged_accuracy"] > 0.9


@pytest.mark.slow
def test_its_fork_is_exact():
    from pitprop.trials.proof import prove_exact

    proof = prove_exact("pitprop.cases.model_merging.recipe:recipe", knobs={"d_model": 16, "num_heads": 2}, steps=2)
    assert proof.steps == 2
