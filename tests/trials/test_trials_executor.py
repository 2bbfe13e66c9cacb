"""The local executor: reuse, one thread, death, hanging, errors, and leaving in the middle."""

import math
import os
import signal
import threading
import time

import pytest
import torch

from pitprop import PitpropError
from pitprop.trials.executors import Outcome, Task
from pitprop.trials.executors._attempts import Job, Patience
from pitprop.trials.executors.local import Local, run_alone
from pitprop.trials.executors.place import open_executor


def who(delay=0.0):
    time.sleep(delay)
    return os.getpid(), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def die(code):
    os._exit(code)


def fail(error):
    raise error


def test_workers_are_reused_and_single_threaded(pool):
    outcomes = dict(pool.run([Task(function=who)] * 12))
    assert sorted(outcomes) == list(range(12))
    assert all(outcome.value[1:] == (1, "1") for outcome in outcomes.values())
    assert len({outcome.value[0] for outcome in outcomes.values()}) <= 2
    assert os.getpid() not in {outcome.value[0] for outcome in outcomes.values()}


def test_outcomes_come_as_they_are_ready(pool):
    list(pool.run([Task(function=who)] * 4))  # both workers are up
    order = [index for index, _ in pool.run([Task(function=who, arguments=(1.0,)), Task(function=who)])]
    assert order == [1, 0]


def test_errors_are_outcomes(pool):
    tasks = [
        Task(function=fail, arguments=(ValueError("no"),)),
        Task(function=fail, arguments=(PitpropError("seen", do="that"),)),
        Task(function=who),
    ]
    outcomes = dict(pool.run(tasks))
    assert outcomes[0].error.startswith("ValueError: no (at ") and "test_trials_executor.py" in outcomes[0].error
    assert outcomes[1].error == "seen\nDo: that"
    assert outcomes[2].error is None


def test_a_worker_that_dies_twice_fails_its_task_and_nothing_else(pool):
    tasks = [Task(function=who), Task(function=die, arguments=(7,)), Task(function=who), Task(function=who)]
    outcomes = dict(pool.run(tasks))
    assert outcomes[1].error == "its process died (exit code 7)"
    assert all(outcomes[i].error is None for i in (0, 2, 3))


def test_a_call_left_in_the_middle_does_not_reach_into_the_next(pool):
    for _ in pool.run([Task(function=who), Task(function=who, arguments=(0.5,)), Task(function=die, arguments=(3,))]):
        break
    outcomes = dict(pool.run([Task(function=who)] * 3))
    assert sorted(outcomes) == [0, 1, 2] and all(outcome.error is None for outcome in outcomes.values())


def test_an_error_in_the_parent_stops_the_workers():
    with pytest.raises(KeyboardInterrupt), Local(1) as local:
        processes = [worker.process for worker in local._pool]
        for _ in local.run([Task(function=who), Task(function=who, arguments=(60.0,))]):
            raise KeyboardInterrupt
    assert not any(process.is_alive() for process in processes)


def test_alone_raises_what_went_wrong_and_needs_a_worker():
    with pytest.raises(PitpropError, match="0 workers"):
        run_alone_with(0)


def run_alone_with(workers):
    with Local(workers):
        pass


def test_the_environment_of_the_parent_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert run_alone(Task(function=who))[2] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_tried_again_and_given_up():
    with Local(2, timeout_s=5) as local:
        outcomes = dict(local.run([Task(function=who, arguments=(600.0,)), Task(function=who), Task(function=who)]))
        assert outcomes[0].error == "it hung: no result within 5 s, so its process was killed"
        assert outcomes[0].died and outcomes[1].error is outcomes[2].error is None
        assert dict(local.run([Task(function=who)]))[0].error is None


def test_a_task_that_hangs_once_is_done_the_second_time(tmp_path):
    with Local(1, timeout_s=5) as local:
        assert dict(local.run([Task(function=hang_once, arguments=(tmp_path / "seen",))]))[0].value == "done"


def test_a_worker_killed_from_outside_is_replaced(pool, tmp_path):
    victim = tmp_path / "pid"
    killer = threading.Thread(target=kill_when_written, args=(victim,))
    killer.start()
    assert dict(pool.run([Task(function=wait_to_be_killed, arguments=(victim,))]))[0].value == "done"
    killer.join()
    twice = dict(pool.run([Task(function=kill_myself), Task(function=who)]))
    assert twice[0].error == "its process died (exit code -9, Killed)" and twice[1].error is None


def hang_once(seen):
    if not seen.exists():
        seen.touch()
        time.sleep(600)
    return "done"


def wait_to_be_killed(victim):
    if not victim.exists():
        part = victim.with_suffix(".part")
        part.write_text(str(os.getpid()))
        part.rename(victim)
        time.sleep(600)
    return "done"


def kill_when_written(victim):
    while not victim.exists():
        time.sleep(0.05)
    os.kill(int(victim.read_text()), signal.SIGKILL)


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def test_patience_is_ten_times_the_median_of_the_like_and_at_least_a_minute():
    ago = time.monotonic() - 1000
    short, long = Job(1, 0, Task(function=fail), ago), Job(1, 1, Task(function=who), ago)
    patience = Patience(None)
    assert patience.hung(long) is None and patience.left([short, long]) is None
    patience.learn(short, Outcome(error="no"))
    assert patience.limit(short) == math.inf  # a failure says nothing of how long success takes
    patience.learn(long, Outcome())
    assert patience.limit(long) == pytest.approx(10_000, abs=100) and patience.limit(short) == math.inf
    patience.learn(Job(1, 2, long.task), Outcome())
    patience.learn(Job(1, 3, long.task), Outcome())
    assert patience.limit(long) == 60 and patience.left([long]) == 0
    assert "no result within 60 s" in patience.hung(long).error
    assert Patience(5).limit(short) == 5
    with pytest.raises(PitpropError, match="within 0 seconds"):
        Patience(0)


def test_places(tmp_path):
    with pytest.raises(PitpropError, match="`slurm` is no place"):
        open_executor("slurm", folder=tmp_path)
    assert isinstance(open_executor(folder=tmp_path), Local)
