"""One engine at a time in one folder."""

import multiprocessing
import os
import signal

import pytest
import recipes_rescue
from git_history import collapse, make_repository, note, search
from safetensors.torch import save_file

from pitprop import PitpropError
from pitprop.trials import diagnose, rescue, trial
from pitprop.trials.bisection import drive, drive_revisions
from pitprop.trials.bisection.drive import bisect
from pitprop.trials.execute import make_folder
from pitprop.trials.interventions import Knob
from pitprop.trials.lock import held


def hold_for_ever(folder, ready):
    with held(folder):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=hold_for_ever, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_second_one_is_told_who_holds_it_until_that_one_dies(tmp_path, holder):
    with pytest.raises(PitpropError, match=f"in use by process {holder.pid}") as refused, held(tmp_path):
        pass
    assert "another folder" in refused.value.do
    holder.kill()
    holder.join()
    with held(tmp_path):
        assert (tmp_path / "runs" / ".lock").read_text() == str(os.getpid())


def test_it_is_let_go_after_an_error(tmp_path):
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    with held(tmp_path), pytest.raises(PitpropError, match=str(os.getpid())), held(tmp_path):
        pass


def test_every_engine_asks_for_it(pool, reference, tmp_path):
    guilty = reference("recipes_tiny", "guilty")
    engines = (
        lambda: trial(guilty, [Knob("pool", "none")], seeds=2, horizon=5, folder=tmp_path, executor=pool),
        lambda: diagnose(guilty, folder=tmp_path, executor=pool),
        lambda: bisect(guilty, good={"pool": "none"}, bad={"pool": "batch"}, folder=tmp_path, executor=pool),
    )
    with held(tmp_path):
        for engine in engines:
            with pytest.raises(PitpropError, match="in use by process"):
                engine()


def test_a_rescue_asks_for_it(pool, reference, tmp_path):
    checkpoint, folder = tmp_path / "model.safetensors", tmp_path / "out"
    save_file(recipes_rescue.Regression(0, recipes_rescue.Drifting()).model.state_dict(), checkpoint)
    folder.mkdir()
    with held(folder), pytest.raises(PitpropError, match="in use by process"):
        rescue(checkpoint, reference("recipes_rescue", "drifting"), folder=folder, executor=pool)
    assert {f.name for f in folder.rglob("*")} == {"runs", ".lock"}, "nothing was written"


def holding(monkeypatch, module, folder):
    """Notes, for each answer that `module` writes, whether another engine would be refused at that moment."""
    written, whole = [], module.write_json

    def note(path, data):
        if path.name == "bisection.json":
            with pytest.raises(PitpropError, match="in use by process"), held(folder):
                pass
            written.append(path)
        whole(path, data)

    monkeypatch.setattr(module, "write_json", note)
    return written


def test_a_bisection_writes_its_answer_under_the_lock(pool, reference, tmp_path, monkeypatch):
    written = holding(monkeypatch, drive, tmp_path)
    bisect(reference("recipes_bisect", "one"), {}, {"norm": "none"}, folder=tmp_path, executor=pool)
    assert written == [make_folder(tmp_path) / "bisection.json"], "and knows its own folder again"


def test_a_bisection_of_revisions_writes_its_answer_under_the_lock(tmp_path, monkeypatch):
    written = holding(monkeypatch, drive_revisions, tmp_path / "out")
    hashes = make_repository(tmp_path / "repository", [note(1), collapse(1.0)])
    search(tmp_path / "repository", hashes[0], "main", tmp_path / "out")
    assert written == [make_folder(tmp_path / "out") / "bisection.json"]
