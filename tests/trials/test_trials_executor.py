"""The local executor: reuse, one thread, death, hanging, errors, and leaving in the middle."""

import os
import signal
import threading
import time

import pytest
import torch

from pitprop import PitpropError
from pitprop.trials.executors import Outcome, Task, pulse
from pitprop.trials.executors._attempts import Job, Patience
from pitprop.trials.executors.local import Local
from pitprop.trials.executors.place import open_executor
from pitprop.trials.progress import Meter


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


def test_no_workers_and_a_log_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(PitpropError, match="0 workers"):
        Local(0)
    with (
        pytest.raises(PitpropError, match=r"nowhere/workers\.log. cannot be written: No such file"),
        Local(1, log=tmp_path / "nowhere" / "workers.log"),
    ):
        pass


def test_a_fresh_task_gets_a_process_of_its_own(pool):
    before = {outcome.value[0] for _, outcome in pool.run([Task(function=who, arguments=(0.2,))] * 4)}
    outcomes = dict(pool.run([Task(function=who, fresh=True), Task(function=who, fresh=True), Task(function=who)]))
    first, second, third = (outcomes[i].value[0] for i in range(3))
    assert first != second and not before & {first, second}
    assert third in before | {first, second}


def test_the_environment_of_the_parent_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with Local(1) as local:
        assert dict(local.run([Task(function=who)]))[0].value[2] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_tried_again_and_given_up():
    with Local(2, timeout_s=5) as local:
        outcomes = dict(local.run([Task(function=who, arguments=(600.0,)), Task(function=who), Task(function=who)]))
        assert outcomes[0].error == "it hung: no result within 5 s, so its process was killed"
        assert outcomes[0].died and outcomes[1].error is outcomes[2].error is None
        assert dict(local.run([Task(function=who)]))[0].error is None


@pytest.mark.slow
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


@pytest.fixture
def clock(monkeypatch):
    """Time as the executors see it; assign to `clock.now`."""

    class Clock:
        now = 5000.0

    monkeypatch.setattr("pitprop.trials.executors._attempts.time.monotonic", lambda: Clock.now)
    return Clock


def test_the_limit_is_the_users_or_ten_times_the_median_between_a_minute_and_an_hour(clock):
    short, long = Task(function=fail), Task(function=who)
    patience = Patience(None)
    assert patience.limit(Job(1, 0, long)) == 3600  # nothing of its kind has ended yet
    job = Job(1, 0, long)
    clock.now += 20
    patience.learn(job, Outcome(error="no"))  # a failure says nothing of how long success takes
    assert patience.limit(job) == 3600
    patience.learn(job, Outcome())
    assert patience.limit(job) == 200 and patience.limit(Job(1, 1, short)) == 3600
    clock.now += 2000
    for _ in range(3):
        patience.learn(job, Outcome())
    assert patience.limit(job) == 3600
    for _ in range(9):
        patience.learn(Job(1, 2, long), Outcome())
    assert patience.limit(job) == 60
    assert Patience(5).limit(job) == 5
    with pytest.raises(PitpropError, match="within 0 seconds"):
        Patience(0)


def test_the_first_run_that_is_silent_for_an_hour_hangs_and_one_that_makes_steps_does_not(clock, tmp_path):
    patience = Patience(None)
    silent = Job(1, 0, Task(function=who), pulse=tmp_path / "silent")
    alive = Job(1, 1, Task(function=who), pulse=tmp_path / "alive")
    for minute in range(59):
        clock.now += 60
        alive.pulse.touch()
        os.utime(alive.pulse, ns=(minute, minute))
        assert patience.hung(silent) is patience.hung(alive) is None
        assert patience.left([silent, alive]) == 15
    clock.now += 61
    assert patience.left([silent, alive]) == 0
    assert "no step ended within 3.6e+03 s" in patience.hung(silent).error and patience.hung(silent).died
    assert patience.hung(alive) is None
    clock.now += 3600
    assert patience.hung(alive).died


def test_a_limit_of_the_users_counts_from_the_start_whatever_is_heard(clock, tmp_path):
    patience, job = Patience(100), Job(1, 0, Task(function=who), pulse=tmp_path / "pulse")
    clock.now += 99
    job.pulse.touch()
    assert patience.hung(job) is None and patience.left([job]) == 1
    clock.now += 1
    assert patience.hung(job).error == "it hung: no result within 100 s, so its process was killed"
    assert patience.left([]) is None


@pytest.mark.slow
def test_a_worker_that_makes_steps_outlives_the_limit_and_a_silent_one_says_where_it_hung(tmp_path, monkeypatch):
    monkeypatch.setattr("pitprop.trials.executors._attempts.CEILING_S", 3.0)
    monkeypatch.setattr("pitprop.trials.executors._attempts.LOOK_S", 0.2)
    with Local(2, log=tmp_path / "workers.log") as local:
        tasks = [Task(function=beat_for, arguments=(5.0,)), Task(function=fall_asleep)]
        outcomes = dict(local.run(tasks))
    assert outcomes[0].value == "done"
    assert outcomes[1].error.startswith("it hung: no step ended within 3 s") and "--timeout-s" in outcomes[1].error
    assert "in fall_asleep" in (tmp_path / "workers.log").read_text()


def beat_for(seconds):
    pulse.EVERY_S = 0.1
    for _ in range(int(seconds / 0.05)):
        pulse.beat()
        time.sleep(0.05)
    return "done"


def fall_asleep():
    time.sleep(600)


def test_the_meter_estimates_from_runs_that_were_run(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr("pitprop.trials.progress.time.monotonic", lambda: Clock.now)
    told = []
    meter = Meter(lambda now: told.append((now.done, now.remaining_s)), total=20)
    meter.workers = 4
    Clock.now = 30  # workers start, a fork is proved
    meter.enter("running")
    for _ in range(4):
        meter.tick(known=True)
    assert told[-1] == (4, None)
    for _ in range(4):  # four at a time, ten seconds each, a quarter of it apart
        Clock.now += 2.5
        meter.tick()
    # 12 are left, of which three are half done: 10.5 runs, at the pace of 5.5 in 10 s
    assert told[-1] == (8, pytest.approx(10.5 * 10 / 5.5))
    for _ in range(12):
        meter.tick()
    assert told[-1] == (20, 0)


def test_places(tmp_path):
    for no_place in ("slurm", "ray://", "ray://head", "host", "http://host:80", "host:"):
        with pytest.raises(PitpropError, match=f"`{no_place}` is no place"):
            open_executor(no_place, folder=tmp_path)
    assert isinstance(open_executor(folder=tmp_path), Local)
