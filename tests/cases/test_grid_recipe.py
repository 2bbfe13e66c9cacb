"""The recipe keeps the contract of a training, its defects can be found, and its collapse is told from its start."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch

from pitprop._errors import PitpropError
from pitprop.cases.grid_solver.arms import FIRST, arms, configuration
from pitprop.cases.grid_solver.losses import task_loss
from pitprop.cases.grid_solver.recipe import Knobs, Solving, known, recipe
from pitprop.checks import Subject
from pitprop.checks.branch_dilution import BranchDilution
from pitprop.records import RUN, Row
from pitprop.rules import INTERNAL, detect
from pitprop.rules.adapter_runaway import AdapterRunaway
from pitprop.trials.preflight import check_recipe
from pitprop.trials.proof import prove_exact

TINY: Mapping[str, Any] = {
    "hidden_dim": 16,
    "num_solver_steps": 1,
    "max_clues": 1,
    "places": 2,
    "batch_size": 4,
}
NEW: Mapping[str, Any] = {**configuration("new"), **TINY, "meta_learning_start_epoch": 0}
REFERENCE = "pitprop.cases.grid_solver.recipe:recipe"


def tiny(seed: int = 0, **changes: Any) -> Solving:
    return Solving(seed, Knobs(**{**TINY, **changes}))


def run(training: Solving, steps: int) -> list[Mapping[str, Any]]:
    return [training.step(batch) for batch in islice(training.batches(0), steps)]


def test_batches_are_a_function_of_seed_and_cursor():
    training = tiny()
    straight, jumped = list(islice(training.batches(0), 4))[3], next(training.batches(3))
    assert all(
        torch.equal(a, b) for one, two in zip(straight, jumped, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert not torch.equal(straight[0].inputs, next(tiny(1).batches(3))[0].inputs)


@pytest.mark.parametrize("loss_mode", ["stablemax", "softmax"])
def test_logits_are_told_as_those_of_a_softmax(loss_mode):
    (told,) = run(tiny(loss_mode=loss_mode), 1)
    assert float(task_loss(told["logits"], told["labels"], stablemax=False)) == pytest.approx(float(told["task_loss"]))


def test_micro_batches_add_up_to_the_mean():
    """Two halves of a batch give the gradient of the whole, where nothing is drawn."""
    training = tiny(dropout=0.0, use_ema=False, clip=1e9)
    ((whole,),) = islice(training.batches(0), 1)
    halves = [type(whole)(*(part[i : i + 2] for part in whole)) for i in (0, 2)]
    found = []
    for batch in ([whole], halves):
        fresh = tiny(dropout=0.0, use_ema=False, clip=1e9)
        fresh.step(batch)
        found.append([p.grad.clone() for p in fresh.model.parameters() if p.grad is not None])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    "knobs",
    [
        pytest.param(TINY, id="OLD", marks=pytest.mark.slow),
        pytest.param({**NEW, "hyperlora_start": 2, "hpm_capacity": 8}, id="NEW, staged"),
    ],
)
def test_a_fork_is_exact(knobs):
    """Stages, memory, average and dropout: two steps, a fork in a new process, and two more."""
    assert prove_exact(REFERENCE, knobs=knobs, steps=2).leaves > 100


def test_evaluation_holds_metric_and_guards_and_leaves_no_trace():
    training = tiny(use_hpm=True, hpm_capacity=8)
    run(training, 1)
    before = {k: v.clone() for k, v in training.model.state_dict().items()}
    random = torch.get_rng_state()
    found = training.evaluate()
    assert {recipe.metric, *(guard.partition("=")[0] for guard in recipe.guards)} <= set(found)
    assert training.model.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[k], v) for k, v in training.model.state_dict().items())


def test_what_needs_no_training_is_known():
    found = known()
    assert found["background everywhere"]["fg_accuracy"] == 0 and found["background everywhere"]["bg_accuracy"] == 1
    assert 0.2 < found["the input as it is"]["fg_accuracy"] < 0.6


def test_the_averaged_model_trains_nothing():
    with_it, without = ([float(out["loss"]) for out in run(tiny(use_ema=on), 3)] for on in (True, False))
    assert with_it == without


@pytest.mark.parametrize("original", [True, False])
def test_the_average_of_the_original_keeps_the_stage_it_was_copied_at(original):
    training = tiny(use_hyperlora=True, hyperlora_start=2, original=original)
    run(training, 3)
    assert training.ema is not None
    assert training.model.strength("hyperlora_active") == 1
    assert training.ema.module.strength("hyperlora_active") == (0 if original else 1)  # type: ignore[operator]


def test_meta_learning_begins_at_its_epoch():
    for start, differs in ((0, True), (1, False)):
        losses = []
        for on in (True, False):
            training = tiny(
                use_hyperlora=True, loo_training=on, equivariance_training=on, meta_learning_start_epoch=start
            )
            losses.append(float(run(training, 1)[0]["loss"]))
        assert (losses[0] != losses[1]) == differs


def test_the_prior_stands_at_the_output_where_asked():
    bias = tiny(bg_bias="prior").model.solver.head[-1].bias.detach()  # type: ignore[operator]
    assert bias.softmax(0)[0] > 0.4 and torch.allclose(bias[1:], bias[1].expand(9))


def test_hyperlora_learns_at_its_own_rate():
    rates = [group["lr"] for group in tiny(use_hyperlora=True).optimizer.param_groups]
    assert rates == [Knobs.lr, 3 * Knobs.lr]


def drowned(**changes: Any) -> list[str]:
    training = tiny(hidden_dim=32, **changes)
    ((batch,),) = islice(training.batches(0), 1)
    subject = Subject(model=training.model, batches=(batch,), loss_fn=lambda model, b: model(b).logits.square().mean())
    return [f.site for f in BranchDilution().run(subject) if f.severity == "warning"]


def test_a_change_sixteen_times_its_hidden_state_is_found_before_a_step():
    assert any("solver" in site for site in drowned(use_hyperlora=True, num_solver_steps=3))
    assert drowned(num_solver_steps=3) == []
    assert drowned(use_hyperlora=True, hyperlora_zero_b=True, num_solver_steps=3) == []


@pytest.mark.slow
def test_a_change_that_outweighs_what_it_adapts_is_told_and_a_clamped_one_is_not():
    for largest, told in ((None, ["adapter-runaway"]), (0.5, [])):
        training = tiny(use_hyperlora=True, batch_size=2, hyperlora_largest_norm=largest)
        rows = [
            Row(step=step, site=RUN, values={"adapter_ratio": out["adapter_ratio"]})
            for step, out in enumerate(run(training, 62))
        ]
        assert [f.rule for f in detect(rows, rules=(AdapterRunaway(),))] == told


DEFECTS: Mapping[str, Mapping[str, Any]] = {
    "positions-alike": {},
    "stale-copy": {},
    "ignored-targets-counted": {},
    "padding-read": {"use_solver_context": True},
    "loss-term-zero": {"use_hyperlora": True, "equivariance_training": True, "meta_learning_start_epoch": 0},
}
"""Check -> knobs with which the defect that it finds has a part."""


@pytest.mark.parametrize("original", [True, False])
def test_each_defect_of_the_original_is_found_by_its_check_and_none_without(original):
    knobs = {**TINY, "original": original, **{name: value for part in DEFECTS.values() for name, value in part.items()}}
    said = {finding.rule for finding in check_recipe(REFERENCE, knobs, seed=0).findings}
    assert said & set(DEFECTS) == (set(DEFECTS) if original else set())
    assert INTERNAL not in said


def test_a_switch_changes_what_is_trained_at_its_step():
    training, counts = tiny(use_hyperlora=True, hyperlora_start=2), []
    for _ in range(4):
        run(training, 1)
        counts.append(sum(p.grad is not None for p in training.model.parameters()))
    assert training.model.hyperlora is not None
    assert counts == [counts[0]] * 2 + [counts[0] + len(list(training.model.hyperlora.parameters()))] * 2


def test_the_configurations_are_the_seeds_and_old_is_the_default():
    assert Knobs(**configuration("old")) == Knobs()
    changed = {k for k, v in configuration("new").items() if v != configuration("old")[k]}
    assert changed == set(configuration("old")) and set(FIRST) < set(arms())
    for knobs in arms().values():
        Knobs(**knobs)
    a, b, c = (configuration(f"option_{x}") for x in "abc")
    assert {k for k in a if k not in configuration("new")} == {
        f"{name}_start" for name in ("hyperlora", "hpm", "solver_context", "cross_attention")
    }
    assert b["gradient_checkpointing"] is False and b["use_hyperlora"] is True
    assert replace(Knobs(**c), max_clues=6, min_clues=2.5) == Knobs()


def test_a_folder_without_tasks_is_explained(tmp_path):
    with pytest.raises(PitpropError, match="has no task with grids of at most 6 x 6"):
        Solving(0, Knobs(data=str(tmp_path)))


def test_every_parameter_is_trained():
    """With a second clue and a second solver step: what is handed from one to the next has no part in a single one."""
    training = tiny(use_hyperlora=True, use_hpm=True, use_solver_context=True, max_clues=2, num_solver_steps=2)
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    run(training, 2)
    still = [name for name, p in training.model.named_parameters() if torch.equal(p, before[name])]
    assert still == []
