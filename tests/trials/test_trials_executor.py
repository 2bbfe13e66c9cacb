"""The local executor: reuse, one thread, death, errors, and leaving in the middle."""

import os
import time

import pytest
import torch

from pitprop import PitpropError
from pitprop.trials.executors import Task
from pitprop.trials.executors.local import Local, run_alone


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
