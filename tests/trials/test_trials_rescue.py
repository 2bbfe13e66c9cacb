"""Rescue, end to end, on trainings whose way back is known: a remedy in place, a roll-back, or nothing."""

import dataclasses
import hashlib
import json
import math
import shutil
from itertools import islice
from pathlib import Path

import pytest
import recipes_rescue
import torch
from safetensors.torch import load_file

import pitprop.watch
from pitprop import PitpropError, report
from pitprop.records import Finding
from pitprop.remedies.torch.unit_rms import UnitRMS
from pitprop.trials import Arm, compare, recovery, rescue, rescue_text, rescued
from pitprop.trials.interventions import ClipGradient, Freeze, Knob, LearningRate, Reinitialise, ResetOptimizer
from pitprop.trials.interventions.load_state import LoadState, start_from
from pitprop.trials.recovery import typical_seed
from pitprop.trials.rescue_arms import Origin, combined_arms
from pitprop.watch.snapshots import taken


def collapse(folder, training, steps=150, snapshots=1.0, every=1):
    """A watched run with snapshots that ends collapsed."""
    with pitprop.watch(
        training.model, training.optimizer, run=folder, every=every, budget=None, quiet=True, snapshots=snapshots
    ) as watch:
        for batch in islice(training.batches(0), steps):
            watch.log(**training.step(batch))
    return folder


def hashes(folder):
    return {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(Path(folder).rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drifted") / "run"
    return collapse(folder, recipes_rescue.Regression(0, recipes_rescue.Drifting()))


@pytest.fixture(scope="module")
def saved(drifted, pool, reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    before, told = hashes(drifted), []
    result = rescue(
        drifted, reference("recipes_rescue", "drifting"), seeds=4, folder=folder, executor=pool, progress=told.append
    )
    assert hashes(drifted) == before, "the original was touched"
    return result, told


@pytest.mark.slow
def test_where_going_back_only_repeats_it_the_remedy_is_found(saved, drifted):
    result, _ = saved
    screen = {c.arm: c.verdict for c in result.screen}
    assert screen["rolled back"] == "no difference within margin"
    assert screen["in place: learning rate multiplied by 0.1"] == "no difference within margin"
    assert screen["in place: neck.inner re-initialised"] == "no difference within margin"
    assert "unit-rms" in result.conclusion.remedy
    assert {c.arm for c in result.confirm if c.verdict == "better"} == {
        "in place: neck.squash replaced by unit-rms",
        "rolled back: neck.squash replaced by unit-rms",
    }
    assert result.conclusion.statement.startswith("Rescued (output-duplication from step")
    assert "Rolling back alone: " in result.conclusion.statement
    assert "over 4 fresh seeds" in result.conclusion.statement and not result.failed
    onset = min(f.onset for f in result.findings if f.severity == "failure")
    good = Path(result.origin.good.path)
    assert good == taken(drifted)[max(step for step in taken(drifted) if step < onset)].resolve()
    assert Path(result.origin.collapsed.path).name == "step-150"


@pytest.mark.slow
def test_the_new_checkpoint_loads_and_is_healthy(saved):
    result, _ = saved
    record = json.loads((result.checkpoint / "rescue.json").read_text())
    training = recipes_rescue.Regression(record["seed"], recipes_rescue.Drifting())
    assert record["interventions"] == [{"kind": "Replace", "path": "neck.squash", "remedy": "unit-rms", "keep": False}]
    training.model.neck.squash = UnitRMS(training.model.neck.squash)
    training.model.load_state_dict(load_file(result.checkpoint / "model.safetensors"))
    training.optimizer.load_state_dict(torch.load(result.checkpoint / "optimizer.pt", weights_only=True))
    assert float(training.evaluate()["spread"]) == record["metric"]["spread"] > 0.1
    for batch in islice(training.batches(120), 20):  # and it goes on
        training.step(batch)
    assert training.evaluate()["spread"] > 0.1
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((result.checkpoint / name).read_bytes()).hexdigest() == digest
    readme = (result.checkpoint / "README.txt").read_text()
    assert "neck.squash replaced by unit-rms" in readme and "weights_only=True" in readme and "untouched" in readme


@pytest.mark.slow
def test_single_ways_come_first_and_are_combined_where_they_leave_something_to_gain(saved):
    result, _ = saved
    singles = [arm.name for arm in result.plan.arms]
    assert singles[0] == "rolled back" and "in place: fresh optimizer" in singles
    assert not any(name.startswith("rolled back: ") for name in singles)
    # What the way in place reaches is short of what the last good state was.
    more = {c.arm for c in result.screen} - set(singles)
    assert more == {"rolled back: neck.squash replaced by unit-rms", "rolled back: neck.inner re-initialised"}


@pytest.mark.slow
def test_the_same_call_goes_on_without_a_new_run(saved, drifted, pool, reference):
    result, told = saved
    before = hashes(result.folder / "runs") | hashes(result.checkpoint)
    again = rescue(drifted, reference("recipes_rescue", "drifting"), seeds=4, folder=result.folder, executor=pool)
    assert hashes(result.folder / "runs") | hashes(result.checkpoint) == before
    assert again.conclusion == result.conclusion and again.checkpoint == result.checkpoint
    assert not (result.folder / "earlier").exists()
    assert told[-1].done == told[-1].total


@pytest.mark.slow
def test_its_folder_says_it_all(saved):
    result, _ = saved
    trial = json.loads((result.folder / "trial.json").read_text())
    assert trial["plan_hash"] == result.plan.hash == json.loads((result.folder / "plan.json").read_text())["hash"]
    assert trial["conclusion"]["remedy"] == result.conclusion.remedy
    starts = [arm["interventions"][0] for arm in trial["plan"]["arms"] if arm["name"] == "rolled back"]
    assert starts == [
        {
            "kind": "LoadState",
            "path": result.origin.good.path,
            "digest": start_from(Path(result.origin.good.path)).digest,
        }
    ]


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_no_half_written_checkpoint(
    error, saved, drifted, pool, reference, tmp_path, monkeypatch
):
    result, _ = saved
    for name in ("runs", "watched"):
        shutil.copytree(result.folder / name, tmp_path / "out" / name)
    whole = shutil.copyfile

    def copy(source, target):
        if target.name == "optimizer.pt":
            raise error
        return whole(source, target)

    def again():
        return rescue(drifted, reference("recipes_rescue", "drifting"), seeds=4, folder=tmp_path / "out", executor=pool)

    monkeypatch.setattr(rescued.shutil, "copyfile", copy)
    with pytest.raises((KeyboardInterrupt, PitpropError)):
        again()
    assert not list((tmp_path / "out").glob("rescued-*"))
    monkeypatch.undo()
    name = "model.safetensors"
    assert (again().checkpoint / name).read_bytes() == (result.checkpoint / name).read_bytes()


@pytest.mark.slow
def test_where_one_blow_did_it_going_back_is_enough(pool, reference, tmp_path):
    training = recipes_rescue.Regression(recipes_rescue.STRUCK_SEED, recipes_rescue.Knobs())
    run = collapse(tmp_path / "run", training)
    result = rescue(
        run, reference("recipes_rescue", "struck"), seeds=3, screen_seeds=2, folder=tmp_path / "out", executor=pool
    )
    confirmed = {c.arm: c.verdict for c in result.confirm}
    assert any(arm.startswith("rolled back") and v == "better" for arm, v in confirmed.items())
    # Two seeds and an interval that holds for all arms together decide nothing yet; the effect is there.
    back = {c.arm: c for c in result.screen}["rolled back"]
    assert back.effect > back.margin
    # It is as good as before the blow: nothing is left to gain by going back with something else.
    # `blind` is what the checkpoint was trained with, so that arm changes nothing and is compared with nothing.
    assert result.conclusion.inert == ("in place: blind=True",)
    assert {c.arm for c in result.screen} == {arm.name for arm in result.plan.arms} - {"in place: blind=True"}
    assert result.origin.good.path.endswith("step-48") and result.checkpoint is not None


def test_a_checkpoint_file_is_watched_going_on_and_cured_in_place(drifted, pool, reference, tmp_path):
    original = tmp_path / "collapsed.safetensors"
    shutil.copy(taken(drifted)[150] / "model.safetensors", original)
    before = hashes(tmp_path)
    result = rescue(
        original,
        reference("recipes_rescue", "drifting"),
        seeds=2,
        screen_seeds=2,
        folder=tmp_path / "out",
        executor=pool,
    )
    assert before == {original: hashes(tmp_path)[original]}
    assert result.origin.good is None and all("rolled back" not in c.arm for c in result.screen)
    assert any(f.rule == "output-duplication" for f in result.findings)
    assert "neck.squash replaced by unit-rms (changes its output by" in result.conclusion.remedy


def test_a_checkpoint_with_its_run_can_roll_back(drifted, reference, tmp_path):
    original = tmp_path / "collapsed.safetensors"
    shutil.copy(taken(drifted)[150] / "model.safetensors", original)
    origin = recovery.find_origin(original, drifted)
    assert origin.good.path.endswith("step-48") and origin.collapsed.path == str(original)
    assert origin.findings


def test_where_nothing_helps_nothing_is_written_and_an_arm_that_raises_is_told(pool, reference, tmp_path):
    run = collapse(tmp_path / "run", recipes_rescue.Regression(0, recipes_rescue.Lost()))
    result = rescue(
        run,
        reference("recipes_rescue", "lost"),
        folder=tmp_path / "out",
        executor=pool,
        seeds=2,
        screen_seeds=2,
        suspects=[Freeze("no.such.module")],
    )
    assert result.collapsed and result.checkpoint is None and not list((tmp_path / "out").glob("rescued-*"))
    assert result.conclusion.statement.startswith("Not rescued") and result.conclusion.remedy is None
    assert "pitprop diagnose" in result.conclusion.next
    assert len(result.failed) == 4 and "no.such.module" in result.failed[0]["error"]
    assert len(result.screen) > 4 and "Without effect at all, so not tested: in place: " in result.conclusion.statement
    page = report.to_html(report.build(result.folder))
    assert "Not rescued" in page and "What was changed" not in page


def test_a_healthy_run_needs_no_rescue(pool, reference, tmp_path):
    run = collapse(tmp_path / "run", recipes_rescue.Regression(0, recipes_rescue.Knobs()), steps=60)
    result = rescue(run, reference("recipes_rescue", "struck"), folder=tmp_path / "out", executor=pool)
    assert not result.collapsed and result.conclusion.statement.startswith("Nothing to rescue")
    assert report.build(result.folder).headline.tone == "clear"


def test_of_a_run_that_was_hardly_watched_that_is_said_first(pool, reference, tmp_path):
    run = collapse(tmp_path / "run", recipes_rescue.Regression(0, recipes_rescue.Drifting()), every=8)
    result = rescue(run, reference("recipes_rescue", "drifting"), folder=tmp_path / "out", executor=pool)
    assert result.conclusion.statement.startswith("Too few rows to tell: 19 of 150 steps measured")
    assert "every=1" in result.conclusion.next and "budget=None" in result.conclusion.next
    head = report.build(result.folder).headline
    assert head.tone == "warning" and head.statement.startswith("Too few rows to tell")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knobs": {"width": 5}}, "does not fit the recipe's model"),
        ({"knobs": {"widht": 5}}, "did you mean `width`"),
        ({"seeds": 1}, "no spread"),
        ({"budget": 30}, "give at least [0-9]+"),
        ({"run": "nowhere"}, "there is no run folder"),
    ],
)
def test_what_cannot_be_rescued_is_an_error(drifted, pool, reference, tmp_path, options, message):
    checkpoint = taken(drifted)[150] if "run" in options else drifted
    with pytest.raises(PitpropError, match=message):
        rescue(checkpoint, reference("recipes_rescue", "drifting"), folder=tmp_path, executor=pool, **options)


def test_the_original_folder_is_no_place_for_the_result(drifted, pool, reference):
    for folder in (drifted, drifted / "rescue"):
        with pytest.raises(PitpropError, match="never written to"):
            rescue(drifted, reference("recipes_rescue", "drifting"), folder=folder, executor=pool)


def test_a_run_without_snapshots(pool, reference, tmp_path):
    run = collapse(tmp_path / "run", recipes_rescue.Regression(0, recipes_rescue.Knobs()), steps=5, snapshots=None)
    with pytest.raises(PitpropError, match="no snapshots") as error:
        rescue(run, reference("recipes_rescue", "struck"), folder=tmp_path / "out", executor=pool)
    assert "snapshots=<GiB>" in error.value.do


def arms_of(*names):
    """Origin and single arms without a file: what the combinations are made of."""
    collapsed, good = LoadState("/run/snapshots/step-9", "c"), LoadState("/run/snapshots/step-4", "g")
    changes = {"remedy": LearningRate(0.1), "other": ClipGradient(1.0), "new": Reinitialise("a"), "knob": Knob("k", 1)}
    arms = [Arm("rolled back", (good,)), Arm("in place: fresh optimizer", (collapsed, ResetOptimizer()))]
    arms += [Arm(f"in place: {n}", (changes[n], collapsed) if n == "knob" else (collapsed, changes[n])) for n in names]
    return Origin(collapsed=collapsed, good=good, findings=()), arms


def screened(arms, effects):
    return [compared(arm.name, [effects.get(arm.name.partition(": ")[2], 0.0)] * 3, control=[0.0] * 3) for arm in arms]


def test_the_best_remedies_and_one_new_module_are_rolled_back():
    origin, arms = arms_of("remedy", "other", "new", "knob")
    screen = screened(arms, {"remedy": 0.5, "other": 0.02, "knob": 0.7})
    more = combined_arms(origin, arms, screen, 0.1, ())
    assert [arm.name for arm in more] == ["rolled back: knob", "rolled back: remedy", "rolled back: new"]
    assert [arm.interventions for arm in more] == [
        (Knob("k", 1), origin.good),
        (origin.good, LearningRate(0.1)),
        (origin.good, Reinitialise("a")),
    ]


def test_where_nothing_helps_in_place_everything_that_acted_is_rolled_back():
    origin, arms = arms_of("remedy", "other", "new")
    screen = screened(arms, dict.fromkeys(("remedy", "other", "new", "fresh optimizer"), math.nan))
    more = combined_arms(origin, arms, screen, 0.1, ("in place: other",))
    assert [arm.name for arm in more] == ["rolled back: new", "rolled back: remedy"]
    nowhere = dataclasses.replace(origin, good=None)
    assert combined_arms(nowhere, arms, screen, 0.1, ()) == ()


def compared(arm, treated, control=None):
    return compare(
        control or [math.nan] * len(treated),
        treated,
        arm=arm,
        changes=arm,
        seeds=range(3, 3 + len(treated)),
        metric="spread",
        higher_is_better=True,
        margin=0.1,
        horizon=10,
        plan="",
    )


def test_the_typical_seed_is_neither_the_luckiest_nor_one_that_failed():
    assert typical_seed(compared("a", [0.9, math.nan, 0.5, 0.1])) == 5


def test_a_way_that_saves_runs_is_told_by_the_runs_it_saves():
    best, dead = compared("a", [0.5] * 5), compared("b", [math.nan] * 5)
    failing = [Finding(rule="loss-not-finite", severity="failure", site="<run>", onset=3, detected=3, message="")]
    said = rescue_text.rescued(best, [best, dead], [best], failing, {best.arm: []}, ("idle",))
    assert "spread is finite at 5 of 5 seeds, the control at 0 (which goes on as it is), over 5 fresh" in said.statement
    assert "nan" not in said.statement
    assert said.inert == ("idle",) and said.exonerated == said.worse == ()


@pytest.mark.slow
def test_the_case_recovers_by_unit_rms_in_place_and_not_by_going_back(reference, pool, tmp_path):
    from recipes_merging_small import Small, small

    run = collapse(tmp_path / "run", small.build(0, Small()), steps=100)
    result = rescue(
        run,
        reference("recipes_merging_small", "small"),
        seeds=3,
        screen_seeds=2,
        folder=tmp_path / "out",
        executor=pool,
    )
    screen = {c.arm: c for c in result.screen}
    unit_rms = screen["in place: neck.squash replaced by unit-rms"]
    assert unit_rms.effect > unit_rms.margin
    assert abs(screen["rolled back"].effect) < unit_rms.margin
    assert abs(screen["in place: neck re-initialised"].effect) < unit_rms.margin
    assert result.checkpoint is not None and "neck.squash replaced by unit-rms" in result.conclusion.remedy
