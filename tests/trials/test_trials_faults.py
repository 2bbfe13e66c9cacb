"""Faults: nothing acknowledged is lost when the parent is killed, interrupted or out of disk, and a report says why."""

import dataclasses
import io
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pitprop import PitpropError, report
from pitprop.cli import main
from pitprop.trials import Arm, Plan, diagnose, run_plan, trial
from pitprop.trials.execute import read_json, write_json
from pitprop.trials.executors import Task
from pitprop.trials.executors.local import Local
from pitprop.trials.interventions import Knob
from pitprop.trials.proof import first_leg, prove, second_half
from pitprop.trials.run import RunSpec, spec_source

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from trial_in_a_process import alive, children, runs, stamps, until  # noqa: E402
from trial_in_a_process import plan as plan_of_the_process  # noqa: E402

HEED_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""For a child of a shell's background job, which ignores it."""


@pytest.fixture
def many(reference):
    """A plan of `count` short runs, without arms."""

    def make(count: int, *arms: Arm) -> Plan:
        recipe = reference("recipes_tiny", "guilty")
        source = spec_source(recipe)
        return Plan(recipe=recipe, source=source, arms=arms, seeds=tuple(range(count)), metric="spread", horizon=3)

    return make


@pytest.mark.slow
def test_a_trial_whose_parent_is_killed_resumes_and_its_workers_die(pool, tmp_path):
    command = [sys.executable, str(HERE / "trial_in_a_process.py"), str(tmp_path), "local"]
    with subprocess.Popen(command) as parent:
        until(lambda: len(runs(tmp_path)) >= 3)
        workers = children(parent.pid)
        parent.send_signal(signal.SIGKILL)
    assert len(workers) >= 2
    until(lambda: not any(alive(pid) for pid in workers), 10)
    kept = stamps(tmp_path)
    assert 3 <= len(kept) < 16
    assert all(json.loads(path.read_text())["status"] == "done" for path in kept)
    results = run_plan(plan_of_the_process(), tmp_path, executor=pool)
    assert len(results) == 16 and all(record["status"] == "done" for record in results.values())
    assert kept.items() <= stamps(tmp_path).items()


def test_a_worker_in_the_middle_of_a_task_dies_with_its_parent(tmp_path):
    code = (
        "import os, time; from pathlib import Path; from pitprop.trials.executors import Task\n"
        "from pitprop.trials.executors.local import Local\n"
        "if __name__ == '__main__':\n"
        "    with Local(1) as local: list(local.run([Task(function=time.sleep, arguments=(600,))]))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, str(script)]) as parent:
        until(lambda: any(b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes() for p in children(parent.pid)))
        time.sleep(4)  # it has imported torch by now, and sleeps; earlier, it would find the pipe closed
        workers = children(parent.pid)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in workers), 10)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_trial_that_resumes(pool, reference, tmp_path, sent):
    recipe = reference("recipes_tiny", "guilty")
    arguments = ["diagnose", recipe, "--out", str(tmp_path), "--seeds", "2", "--workers", "2", "--knob", "failing=slow"]
    code = f"{HEED_CTRL_C}; import sys; from pitprop.cli import main; sys.exit(main({arguments!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as parent:
        until(lambda: len(runs(tmp_path)) >= 2)
        workers = children(parent.pid)
        parent.send_signal(sent)
        _, said = parent.communicate(timeout=30)
    assert parent.returncode == 130
    assert "Traceback" not in said
    assert said.endswith(
        f"what was done is kept, and this goes on from there:\n  {shlex.join(['pitprop', *arguments])}\n"
    )
    until(lambda: not any(alive(pid) for pid in workers), 10)
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.glob("proof-*"))
    kept = stamps(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    plan.pop("hash")
    results = run_plan(Plan.from_dict(plan), tmp_path, executor=pool)
    assert kept.items() <= stamps(tmp_path).items() and len(runs(tmp_path)) > len(kept)
    assert all(record["status"] == "done" for record in results.values())


@pytest.fixture
def small_disk(tmp_path):
    """A disk of sixteen blocks, and how to make room on it."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        yield place, lambda: subprocess.run(["mount", "-o", "remount,size=4m", str(place)], check=True)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_an_error_and_with_room_the_trial_goes_on(pool, many, small_disk):
    disk, make_room = small_disk
    plan = many(30)
    acknowledged = []
    with pytest.raises(PitpropError, match=r"runs/.*No space left on device[\s\S]*goes on from what is kept"):
        run_plan(plan, disk, executor=pool, on_run=lambda known: acknowledged.append(known))
    kept = stamps(disk)
    assert len(kept) == len(acknowledged) > 0
    assert all(json.loads(path.read_text())["status"] == "done" for path in kept)
    assert not list(disk.rglob("*.part"))
    make_room()
    assert len(run_plan(plan, disk, executor=pool)) == 30
    assert kept.items() <= stamps(disk).items()


@pytest.mark.parametrize("place, why", [("file", "Not a directory"), ("/proc/none/out", "No such file or directory")])
def test_a_folder_that_cannot_be_made_is_refused(reference, tmp_path, capsys, place, why):
    (tmp_path / "file").touch()
    out = tmp_path / place / "out"  # an absolute place replaces what is before it
    arguments = ["trial", reference("recipes_tiny", "guilty"), "--knob-arm", "pool=none", "--out", str(out)]
    assert main(arguments) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "cannot be written" in said and why in said and "give another folder" in said


def test_a_folder_that_may_only_be_read_is_refused(reference, small_disk, capsys):
    disk, _ = small_disk
    recipe, arm = reference("recipes_tiny", "guilty"), ["--knob-arm", "pool=none"]
    (disk / "runs").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for verb in (["trial", recipe, *arm], ["diagnose", recipe]):
        assert main([*verb, "--out", str(disk)]) == 2
        assert "Read-only file system" in " ".join(capsys.readouterr().err.split())


def test_a_write_that_is_refused_leaves_the_old_file(tmp_path):
    file = tmp_path / "record.json"
    write_json(file, {"old": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(PitpropError, match=r"record\.json. cannot be written: File too large"):
            write_json(file, {"new": "x" * 10_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert json.loads(file.read_text()) == {"old": 1} and os.listdir(tmp_path) == ["record.json"]


@pytest.mark.parametrize("torn", [b"", b'{"status": ', b"\xff\xfe\x00", b"[]", b"null"])
def test_a_torn_file_is_as_good_as_none(tmp_path, torn):
    (tmp_path / "run.json").write_bytes(torn)
    assert read_json(tmp_path / "run.json") is None
    assert read_json(tmp_path / "missing.json") is None


def test_a_file_that_may_not_be_read_is_an_error_and_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(PitpropError, match=r"`.*folder\.json` cannot be read: Is a directory"):
        read_json(tmp_path / "folder.json")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything, whatever the file's mode
    with pytest.raises(PitpropError, match=r"cannot be read: Permission denied[^$]*overwritten"):
        read_json(tmp_path / "run.json")


@pytest.mark.slow
def test_an_arm_that_hangs_is_marked_and_the_trial_goes_on(many, tmp_path):
    plan = many(1, Arm("hangs", (Knob("failing", "hang"),)), Arm("open", (Knob("pool", "none"),)))
    with Local(2, timeout_s=15) as local:
        results = run_plan(plan, tmp_path, executor=local)
    assert results["hangs", 0]["error"] == "it hung: no result within 15 s, so its process was killed"
    assert results["control", 0]["status"] == results["open", 0]["status"] == "done"


@pytest.mark.slow
def test_a_proof_that_hangs_on_either_side_of_the_fork_is_an_error(reference, tmp_path):
    good = RunSpec(recipe=reference("recipes_tiny", "guilty"), source="", seed=0, horizon=3, fork_step=3)
    hangs = dataclasses.replace(good, knobs={"failing": "hang"})
    why = r"could not be proved: it hung: no result within 12 s"
    with Local(1, timeout_s=12) as local:
        ((_, straight),) = local.run([Task(function=first_leg, arguments=(good, str(tmp_path)))])
        with pytest.raises(PitpropError, match=why):
            second_half(hangs, str(tmp_path), straight.value, local)
        with pytest.raises(PitpropError, match=why):
            prove(hangs, local, place=tmp_path)
    assert not list(tmp_path.glob("proof-*"))


@pytest.mark.slow
def test_the_report_says_what_raised_and_what_was_nan(pool, reference, tmp_path):
    suspects = [Knob("failing", "raise"), Knob("failing", "nan")]
    diagnosis = diagnose(
        reference("recipes_tiny", "guilty"), seeds=2, screen_seeds=2, suspects=suspects, folder=tmp_path, executor=pool
    )
    assert diagnosis.conclusion.cause == "the knob `pool` = 'batch'"
    failed = json.loads((tmp_path / "trial.json").read_text())["failed"]
    assert [(run["arm"], run["seed"]) for run in failed] == [
        ("failing=raise", 0),
        ("failing=raise", 1),
        ("failing=nan", 0),
        ("failing=nan", 1),
    ]
    assert "RuntimeError: the arm is broken" in failed[0]["error"]
    assert failed[2]["error"].startswith("it ended with spread = nan; its loss was not finite from step ")
    text = io.StringIO()
    report.to_text(report.build(tmp_path), Console(file=text, width=200))
    assert "failed: failing=raise, seed 0, 1: RuntimeError: the arm is broken" in text.getvalue()
    assert "failed: failing=nan, seed 0, 1: it ended with spread = nan" in text.getvalue()


@pytest.mark.slow
def test_the_report_says_which_runs_died_and_which_hung(reference, tmp_path):
    arms = [Knob("failing", "die"), Knob("failing", "hang"), Knob("pool", "none")]
    with Local(2, timeout_s=12, log=tmp_path / "workers.log") as local:
        found = trial(reference("recipes_tiny", "guilty"), arms, seeds=2, folder=tmp_path, executor=local)
    assert {run["arm"]: run["error"] for run in found.failed} == {
        "failing=die": "its process died (exit code 9)",
        "failing=hang": "it hung: no result within 12 s, so its process was killed",
    }
    assert {c.arm: c.effect for c in found.comparisons}["pool=none"] > 0.1  # the trial went on
    text = io.StringIO()
    report.to_text(report.build(tmp_path), Console(file=text, width=200))
    assert "failed: failing=die, seed 0, 1: its process died" in text.getvalue()
    assert "failed: failing=hang, seed 0, 1: it hung" in text.getvalue()
