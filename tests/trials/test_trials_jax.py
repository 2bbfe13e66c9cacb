"""Jax trainings: forked exactly, changed by knob and by parameter path, tried and judged like any other."""

import json
from itertools import islice

import jax
import numpy as np
import pytest
import recipes_jax
from recipes_jax import Knobs

from pitprop import PitpropError
from pitprop.cli import main
from pitprop.trace import Reader
from pitprop.trials import diagnose, fork
from pitprop.trials.executors import Task
from pitprop.trials.interventions import (
    INTERVENTIONS,
    Ablate,
    ClipGradient,
    Detach,
    ForceUniformAttention,
    Freeze,
    Knob,
    LearningRate,
    LoadState,
    Precision,
    Reinitialise,
    Replace,
    ResetOptimizer,
    Scale,
    ShuffleCondition,
    Stage,
    SwapData,
    WeightDecay,
)
from pitprop.trials.jax import named_leaves
from pitprop.trials.proof import first_leg, second_leg
from pitprop.trials.run import RunSpec, train_run
from pitprop.trials.watched import watched_run
from pitprop.watch.histogram import NAME


def make(steps=0, seed=0, **knobs):
    training = recipes_jax.build(seed, Knobs(**knobs))
    for batch in islice(training.batches(0), steps):
        training.step(batch)
    return training


def leaves(training):
    return {name: np.asarray(leaf, np.float32) for name, leaf in named_leaves(training.tree["params"])}


def moved(training, other):
    return {name for name, leaf in leaves(training).items() if not np.array_equal(leaf, leaves(other)[name])}


def stepped(training, cursor=3):
    training.step(next(training.batches(cursor)))
    return training


HEAD = {"head.w", "head.b"}
HIDDEN = {"hidden.w", "hidden.b"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_snapshot_brings_back_every_leaf(tmp_path, dtype):
    training = make(3, dtype=dtype)
    fork.save(fork.capture(training, 3), tmp_path / "a.pt")
    other = make(0, seed=1, dtype=dtype)
    assert fork.restore(other, fork.load(tmp_path / "a.pt")) == 3
    assert fork.digest(fork.capture(other, 3)) == fork.digest(fork.capture(training, 3))
    assert jax.tree.map(jax.typeof, other.tree) == jax.tree.map(jax.typeof, training.tree), "weak types too"
    batch = next(training.batches(3))
    other.step(batch), training.step(batch)
    assert not moved(other, training)


def test_a_snapshot_of_another_training_is_refused():
    snapshot = fork.capture(make(), 0)
    snapshot["training"]["state"].pop("params.head.b")
    with pytest.raises(PitpropError, match=r"params\.head\.b"):
        fork.restore(make(), snapshot)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "differs"), [("", False), ("own generator", True)])
def test_the_proof_of_a_fork(pool, reference, tmp_path, fault, differs):
    """Both legs in processes of the shared pool: what hides outside of the state is found, by its path."""
    spec = RunSpec(
        recipe=reference("recipes_jax", "recipe"), source="", knobs={"fault": fault}, seed=3, horizon=3, fork_step=3
    )
    legs = [Task(function=leg, arguments=(spec, str(tmp_path))) for leg in (first_leg, second_leg)]
    ((_, first),), ((_, second),) = (list(pool.run([leg])) for leg in legs)
    assert first.error is None and second.error is None, (first.error, second.error)
    losses, where, leaves, _ = second.value
    assert (losses == first.value) != differs
    assert leaves > 14 and (where is not None) == differs


def test_freeze_stops_what_it_names_though_adam_has_moments():
    training, plain = make(3), make(3)
    applied = Freeze("hidden").apply(training)
    before = make(3)
    stepped(training), stepped(plain)
    assert moved(training, before) == HEAD and moved(training, plain) == HIDDEN
    assert applied.paths == ("hidden.b", "hidden.w")
    applied.check("x")


@pytest.mark.parametrize(("path", "slow"), [("*", HEAD | HIDDEN), ("head.*", HEAD), ("*.w", {"head.w", "hidden.w"})])
def test_a_learning_rate_is_a_share_of_the_update(path, slow):
    training, plain, start = make(3), make(3), leaves(make(3))
    LearningRate(0.1, path).apply(training)
    stepped(training), stepped(plain)
    for name, leaf in leaves(training).items():
        update = leaves(plain)[name] - start[name]
        np.testing.assert_allclose(leaf - start[name], update * (0.1 if name in slow else 1), rtol=1e-3, atol=1e-6)


def test_clipped_gradients_are_those_of_a_twin():
    def twin(factor):
        training = make(0, fault="sgd", lr=1.0)
        start = leaves(training)
        stepped(training)
        return {name: (start[name] - leaf) * factor for name, leaf in leaves(training).items()}

    gradients = twin(1)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
    training = make(0, fault="sgd", lr=1.0)
    start = leaves(training)
    applied = ClipGradient(float(norm) / 2, max_value=0.01).apply(training)
    stepped(training)
    for name, leaf in leaves(training).items():
        np.testing.assert_allclose(start[name] - leaf, np.clip(gradients[name] / 2, -0.01, 0.01), rtol=1e-3, atol=1e-6)
    training.evaluate()
    assert applied.calls["tx"] == 1


def test_clipping_that_never_clips_did_nothing():
    training, plain = make(), make()
    applied = ClipGradient(1e6).apply(training)
    stepped(training), stepped(plain)
    training.evaluate()
    assert applied.calls["tx"] == 0 and not moved(training, plain)
    applied.check("no error")


def test_parameters_are_scaled_once():
    training, plain = make(2), make(2)
    Scale("hidden.w", 0.5, side="parameters").apply(training).check("x")
    assert moved(training, plain) == {"hidden.w"}
    assert np.array_equal(leaves(training)["hidden.w"], 0.5 * leaves(plain)["hidden.w"])


def test_reinitialise_draws_by_the_recipes_own_init_and_forgets_the_moments():
    training, plain, other = make(3), make(3), make(0, seed=9)
    Reinitialise("head", seed=9).apply(training).check("x")
    assert moved(training, plain) == HEAD and not moved(training, other) & HEAD
    moments = training.tree["opt_state"]
    assert not moments.first["head"]["w"].any() and moments.first["hidden"]["w"].any() and moments.count == 3


def test_reset_optimizer_forgets_all_or_what_it_names():
    training = make(3)
    params = leaves(training)
    ResetOptimizer().apply(training).check("x")
    assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(training.tree["opt_state"]))
    assert all(np.array_equal(leaf, params[name]) for name, leaf in leaves(training).items())
    part = make(3)
    ResetOptimizer("hidden.w").apply(part)
    moments = part.tree["opt_state"]
    assert not moments.second["hidden"]["w"].any() and moments.second["hidden"]["b"].any() and moments.count == 3
    with pytest.raises(PitpropError, match="fork later"):
        ResetOptimizer().apply(make()).check("x")


@pytest.mark.parametrize(
    "change",
    [Freeze("hiden.w"), LearningRate(0.1, "hiden"), Scale("hiden.w", 2.0, side="parameters"), Reinitialise("hiden")],
    ids=lambda c: type(c).__name__,
)
def test_a_path_that_matches_nothing_lists_the_nearest(change):
    with pytest.raises(PitpropError, match=r"No parameter is at or under `hiden.*`hidden"):
        change.apply(make())


def test_a_step_that_ignores_its_transformation_is_found_out():
    training = make(fault="deaf")
    applied = Freeze("head").apply(training)
    stepped(training)
    with pytest.raises(PitpropError, match="does not use the `tx`"):
        applied.check("x")


def test_changes_add_up():
    training, plain = make(3), make(3)
    Freeze("head").apply(training)
    LearningRate(0.0, "hidden.w").apply(training)
    stepped(training)
    assert moved(training, plain) == {"hidden.b"}


WORK = {Knob, SwapData, Freeze, LearningRate, ClipGradient, Reinitialise, ResetOptimizer, Scale}
REFUSED = (
    Ablate("head"),
    Detach("head"),
    ForceUniformAttention("head"),
    Precision("bfloat16"),
    Replace("head", "unit-rms"),
    ShuffleCondition("head"),
    Stage("head", 3),
    WeightDecay(value=0.1),
    Scale("head", 0.1),
)


def test_every_kind_works_in_jax_or_says_what_does():
    assert WORK | {type(change) for change in REFUSED} | {LoadState} == set(INTERVENTIONS)


@pytest.mark.parametrize("change", REFUSED, ids=lambda c: type(c).__name__)
def test_what_cannot_act_in_jax_says_what_can(change):
    with pytest.raises(PitpropError, match=r"jax one.*\n.*\nDo: .*Freeze, LearningRate"):
        change.apply(make())


@pytest.mark.slow
@pytest.mark.parametrize("change", [Reinitialise("head", seed=3), SwapData(7), Knob("lr", 0.1)])
def test_a_whole_run_is_repeatable_and_not_the_controls(reference, tmp_path, change):
    head = {"recipe": reference("recipes_jax", "recipe"), "source": "", "seed": 0, "horizon": 4, "fork_step": 2}
    once, again = (train_run(RunSpec(**head, interventions=(change,)), str(tmp_path / f)) for f in "ab")
    control = train_run(RunSpec(**head), str(tmp_path / "a"))
    assert once["state"] == again["state"] != control["state"]


@pytest.mark.slow
def test_a_trial_from_the_command_line(reference, tmp_path, capsys):
    recipe, out = reference("recipes_jax", "recipe"), tmp_path / "out"
    arms = ["--knob-arm", "blind=true", "--freeze", "hidden", "--scale-parameters", "head.w=0"]
    options = ["--seeds", "3", "--horizon", "40", "--fork-step", "10", "--workers", "1", "--out", str(out), "--json"]
    assert main(["trial", recipe, *arms, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    verdicts = {c["arm"]: c["verdict"] for c in found["comparisons"]}
    assert verdicts["blind=True"] == "worse" and len(verdicts) == 3
    assert found["fork"]["exact"] and not found["failed"]

    assert main(["trial", recipe, "--ablate", "head", "--workers", "1", "--out", str(tmp_path / "refused")]) == 2
    assert "jax one" in capsys.readouterr().err


@pytest.mark.slow
def test_a_diagnosis_names_the_replicas_that_do_not_hear_of_each_other(reference, tmp_path):
    found = diagnose(reference("recipes_replicas", "recipe"), folder=tmp_path / "diagnosis", workers=1)
    assert found.collapsed and ("unsynchronised-replicas", "failure") in {(f.rule, f.severity) for f in found.findings}
    assert found.conclusion.cause and "synchronised" in found.conclusion.statement
    assert [c.arm for c in found.confirm if c.verdict == "better"] == ["synchronised=True"]
    with Reader(found.folder) as trace:
        assert len(trace.series("gradient_norm", "<model>")[0]) == 60
        assert trace.array(NAME, 0, "<model>").sum() == 5 * 650
        assert trace.series("evaluate_accuracy", "<run>")[0][0] == 0


@pytest.mark.slow
def test_a_watched_jax_run_is_the_run_itself(reference, tmp_path):
    spec = RunSpec(recipe=reference("recipes_replicas", "recipe"), source="", seed=0, horizon=20)
    plain = train_run(spec, str(tmp_path / "forks"))
    watched = watched_run(spec, str(tmp_path / "watched"))
    assert watched["metrics"]["accuracy"][-1] == [20, plain["metrics"]["accuracy"]] and watched["modules"] == []
