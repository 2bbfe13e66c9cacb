"""The fork is exact, bit for bit, into a new process; and what cannot be forked is refused by name."""

import random

import numpy as np
import pytest
import torch

from pitprop import PitpropError
from pitprop.trials import fork, load_recipe, prove_exact
from pitprop.trials.executors import Task
from pitprop.trials.proof import first_leg, second_half, second_leg
from pitprop.trials.run import RunSpec, Steps, build


def in_two_processes(pool, tmp_path, recipe):
    """Both legs of the proof as tasks of the shared pool, which saves starting two processes."""
    spec = RunSpec(recipe=recipe, source="", seed=3, horizon=6, fork_step=6)
    ((_, first),) = pool.run([Task(function=first_leg, arguments=(spec, str(tmp_path)))])
    ((_, second),) = pool.run([Task(function=second_leg, arguments=(spec, str(tmp_path)))])
    assert first.error is None and second.error is None, (first.error, second.error)
    return first.value, second.value


@pytest.mark.slow
def test_everything_with_state_survives_a_new_process(reference, tmp_path):
    proof = prove_exact(reference("recipes_fork", "full"), seed=3, steps=6, log=tmp_path / "log")
    assert proof.steps == 6 and len(proof.digest) == 64
    assert proof.to_dict()["exact"] is True
    assert proof.leaves > 60


def test_an_inexact_recipe_is_refused_with_the_first_tensor_named(pool, reference, tmp_path):
    spec = RunSpec(recipe=reference("recipes_fork", "hidden_counter"), source="", seed=3, horizon=6, fork_step=6)
    ((_, first),) = pool.run([Task(function=first_leg, arguments=(spec, str(tmp_path)))])
    with pytest.raises(PitpropError) as caught:
        second_half(spec, str(tmp_path), first.value, pool)
    text = str(caught.value)
    assert "`model.0.weight`" in text
    assert "the loss differs from step 6 on" in text
    assert "state_dict" in text and "batches(cursor)" in text and "state()" in text


@pytest.mark.parametrize("attribute", ["hidden_generator", "ignores_cursor", "own_state", "late_counter"])
def test_every_kind_of_inexactness_is_seen(pool, reference, tmp_path, attribute):
    straight, (forked, where, _, _) = in_two_processes(pool, tmp_path, reference("recipes_fork", attribute))
    assert where is not None
    assert straight != forked


def test_snapshot_is_read_without_executing_anything_and_restores_the_cursor(reference, tmp_path):
    recipe = load_recipe(reference("recipes_fork", "full"))
    training, _ = build(recipe, {}, 0, ())
    run = Steps(training)
    list(run.take(3))
    snapshot = fork.capture(training, run.cursor)
    fork.save(snapshot, tmp_path / "a.pt")
    again = fork.load(tmp_path / "a.pt")  # weights_only
    assert fork.digest(again) == fork.digest(snapshot)
    assert fork.first_difference(snapshot, again) is None
    other, _ = build(recipe, {}, 1, ())
    assert fork.restore(other, again) == 3
    assert fork.digest(fork.capture(other, 3)) == fork.digest(snapshot)


def test_digest_sees_one_bit_one_type_one_shape_and_one_name():
    base = {"training": {"model": {"w": torch.zeros(2, 3)}}, "rng": {}, "cursor": 0}
    digests = {fork.digest(base)}
    for tensor in (torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[0, 0, 0], [0, 0, -0.0]])):
        digests.add(fork.digest({**base, "training": {"model": {"w": tensor}}}))
    digests.add(fork.digest({**base, "training": {"model": {"v": torch.zeros(2, 3)}}}))
    digests.add(fork.digest({**base, "cursor": 1}))
    assert len(digests) == 6


def test_nan_equals_itself_bit_for_bit():
    a = {"training": {"w": torch.tensor([float("nan")])}, "rng": {}, "cursor": 0}
    assert fork.first_difference(a, {"training": {"w": torch.tensor([float("nan")])}, "rng": {}, "cursor": 0}) is None


def test_difference_names_what_is_missing():
    a = {"training": {"model": {"w": torch.zeros(1)}}, "rng": {"torch": torch.zeros(1)}, "cursor": 0}
    assert fork.first_difference(a, {**a, "rng": {}}) == "rng.torch"
    assert fork.first_difference({**a, "rng": {}}, a) == "rng.torch"


def test_state_that_is_not_plain_is_an_error_that_names_the_place():
    class Thing:
        def state_dict(self):
            return {"inner": [1, {2, 3}]}

        def load_state_dict(self, state):
            raise AssertionError("never reached")

    class Training:
        def __init__(self):
            self.thing = Thing()

    with pytest.raises(PitpropError, match=r"builtins\.set at `thing\.inner\.1`"):
        fork.capture(Training(), 0)


def test_restoring_into_other_parts_is_an_error(reference):
    recipe = load_recipe(reference("recipes_fork", "full"))
    training, _ = build(recipe, {}, 0, ())
    snapshot = fork.capture(training, 0)
    del training.ema
    with pytest.raises(PitpropError, match="the training has"):
        fork.restore(training, snapshot)


def test_kept_rng_hides_every_draw():
    fork.seed_everything(5)
    before = fork.digest(fork.rng_state())
    with fork.kept_rng():
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
        assert fork.digest(fork.rng_state()) != before
    assert fork.digest(fork.rng_state()) == before
