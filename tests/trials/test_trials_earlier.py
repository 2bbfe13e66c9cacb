"""A folder keeps every answer: that of another plan goes to `earlier/`, and a report can be made of it there."""

import json

import pytest

from pitprop import PitpropError, report
from pitprop.trials import diagnose, trial
from pitprop.trials.earlier import keep_earlier, set_aside
from pitprop.trials.interventions import Knob, LearningRate

FEW = {"seeds": 2, "horizon": 20}


def answered(folder):
    return json.loads((folder / "trial.json").read_text())


def test_another_trial_keeps_the_first_one_and_its_runs(pool, reference, tmp_path):
    guilty = reference("recipes_tiny", "guilty")
    first = trial(guilty, [Knob("pool", "none")], folder=tmp_path, executor=pool, **FEW)
    again = trial(guilty, [Knob("pool", "none")], folder=tmp_path, executor=pool, **FEW)
    assert again.plan.hash == first.plan.hash and not (tmp_path / "earlier").exists()
    runs = sorted((tmp_path / "runs").glob("*.json"))

    second = trial(guilty, [LearningRate(0.1)], folder=tmp_path, executor=pool, **FEW)
    assert answered(tmp_path)["plan_hash"] == second.plan.hash != first.plan.hash
    (earlier,) = (tmp_path / "earlier").iterdir()
    assert answered(earlier)["plan_hash"] == first.plan.hash
    assert json.loads((earlier / "plan.json").read_text())["hash"] == first.plan.hash
    assert report.build(earlier).headline.statement == report.build(earlier).headline.statement != ""
    assert set(runs) < set((tmp_path / "runs").glob("*.json")) and len(list((tmp_path / "runs").glob("*.json"))) == 6

    trial(guilty, [Knob("pool", "none")], folder=tmp_path, executor=pool, **FEW)  # and back
    assert answered(tmp_path)["plan_hash"] == first.plan.hash
    assert {answered(f)["plan_hash"] for f in (tmp_path / "earlier").iterdir()} == {first.plan.hash, second.plan.hash}


def test_a_trial_in_the_folder_of_a_diagnosis_leaves_its_trace_with_it(pool, reference, tmp_path):
    found = diagnose(reference("recipes_tiny", "healthy"), folder=tmp_path, executor=pool)
    assert not found.collapsed
    trial(reference("recipes_tiny", "guilty"), [Knob("pool", "none")], folder=tmp_path, executor=pool, **FEW)
    assert not (tmp_path / "trace.sqlite").exists()  # or a report would show the one with the other
    (earlier,) = (tmp_path / "earlier").iterdir()
    assert report.build(earlier).headline.statement == found.conclusion.statement


@pytest.mark.parametrize("copy", [False, True])
def test_the_trace_moves_or_is_copied(copy, tmp_path):
    for name in ("plan.json", "trial.json", "trace.sqlite"):
        (tmp_path / name).write_text('{"a": 1, "plan_hash": "abc"}')
    keep_earlier(tmp_path, {"a": 1}, copy_trace=copy)
    assert not (tmp_path / "earlier").exists()
    keep_earlier(tmp_path, {"a": 2}, copy_trace=copy)
    (earlier,) = (tmp_path / "earlier").iterdir()
    assert sorted(f.name for f in earlier.iterdir()) == ["plan.json", "trace.sqlite", "trial.json"]
    assert [f.name for f in tmp_path.iterdir() if f.is_file()] == ["trace.sqlite"] * copy


def test_an_interrupted_plan_without_an_answer_is_only_replaced(tmp_path):
    (tmp_path / "plan.json").write_text('{"a": 1}')
    keep_earlier(tmp_path, {"a": 2})
    assert [f.name for f in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_kill_in_between_loses_nothing(after, tmp_path, monkeypatch):
    """Moving begins again where it was: the answer goes last."""
    import pitprop.trials.earlier as room

    names = ("watched.json", "report.html", "plan.json", "trial.json")
    for name in names:
        (tmp_path / name).write_text('{"plan_hash": "abc"}')
    whole, moved = room.os.replace, []

    def killed(source, target):
        if len(moved) == after:
            raise KeyboardInterrupt
        moved.append(source)
        whole(source, target)

    monkeypatch.setattr(room.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        set_aside(tmp_path)
    monkeypatch.undo()
    set_aside(tmp_path)
    assert sorted(f.name for f in next((tmp_path / "earlier").iterdir()).iterdir()) == sorted(names)


def test_a_folder_that_refuses_says_so(tmp_path, monkeypatch):
    import pitprop.trials.earlier as room

    (tmp_path / "trial.json").write_text('{"plan": {}}')
    monkeypatch.setattr(room.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(PitpropError, match="No space left") as error:
        set_aside(tmp_path)
    assert "another folder" in error.value.do


@pytest.mark.parametrize("gone", ["state", "diverged", "acted"])
def test_a_record_of_an_older_version_is_read(gone, pool, reference, tmp_path):
    arms = [Knob("bias", False), Knob("pool", "none")]
    options = {"folder": tmp_path, "executor": pool, **FEW}
    before = trial(reference("recipes_tiny", "guilty"), arms, **options)
    for file in (tmp_path / "runs").glob("*.json"):
        record = json.loads(file.read_text())
        del record[gone]
        file.write_text(json.dumps(record))
    after = trial(reference("recipes_tiny", "guilty"), arms, **options)
    assert repr(after.comparisons) == repr(before.comparisons)  # an undefined interval is NaN, which equals nothing
    assert all(gone not in json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*.json"))
