"""One engine at a time in one folder."""

import multiprocessing
import os
import signal

import pytest

from pitprop import PitpropError
from pitprop.trials import diagnose, trial
from pitprop.trials.bisection.drive import bisect
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
