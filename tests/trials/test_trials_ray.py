"""The Ray executor on a local Ray with two workers: the contract, the same records as local, and its faults."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from pitprop import PitpropError
from pitprop.cli import main
from pitprop.trials import Arm, Plan, run_plan
from pitprop.trials.executors import Task
from pitprop.trials.executors.place import open_executor
from pitprop.trials.executors.ray import _Remote, _versions
from pitprop.trials.interventions import Knob
from pitprop.trials.run import spec_source

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from trial_in_a_process import alive, descendants, runs, stamps, until  # noqa: E402
from trial_in_a_process import plan as plan_of_the_process  # noqa: E402

pytestmark = pytest.mark.slow

NOT_RECORDED = {"training_s", "engine_s"}


def who(delay=0.0):
    time.sleep(delay)
    return os.getpid(), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def note_and_hang_once(place):
    if not place.exists():
        part = place.with_suffix(".part")
        part.write_text(str(os.getpid()))
        part.rename(place)
        time.sleep(600)
    return os.getpid()


def fail():
    print("a word for the log")
    raise ValueError("no")


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with open_executor("ray", 2, folder=tmp_path_factory.mktemp("ray"), timeout_s=60) as executor:
        yield executor


@pytest.fixture
def plan(reference):
    recipe = reference("recipes_tiny", "guilty")
    arms = (Arm("open", (Knob("pool", "none"),)), Arm("broken", (Knob("failing", "raise"),)))
    return Plan(
        recipe=recipe, source=spec_source(recipe), arms=arms, seeds=(0, 1), metric="spread", horizon=20, fork_step=5
    )


def records(folder: Path) -> dict[str, dict]:
    """The records in `folder` without what the clock says."""
    found = {path.name: json.loads(path.read_text()) for path in (folder / "runs").glob("*.json")}
    return {name: {k: v for k, v in record.items() if k not in NOT_RECORDED} for name, record in found.items()}


def test_workers_are_reused_and_single_threaded(cluster):
    outcomes = dict(cluster.run([Task(function=who)] * 8))
    assert sorted(outcomes) == list(range(8)) and cluster.workers == 2
    assert all(outcome.value[1:] == (1, "1") for outcome in outcomes.values())
    assert len({outcome.value[0] for outcome in outcomes.values()} - {os.getpid()}) <= 2


def test_errors_are_outcomes_and_go_to_the_log(cluster):
    outcomes = dict(cluster.run([Task(function=fail), Task(function=who)]))
    assert outcomes[0].error.startswith("ValueError: no (at ") and outcomes[1].error is None
    assert "a word for the log" in (cluster._folder / "workers.log").read_text()


def test_the_records_are_those_of_the_local_executor(cluster, pool, plan, tmp_path):
    run_plan(plan, tmp_path / "ray", executor=cluster)
    run_plan(plan, tmp_path / "local", executor=pool)
    ours, theirs = records(tmp_path / "ray"), records(tmp_path / "local")
    assert ours == theirs and len(ours) == 6
    assert [record["status"] for record in ours.values()].count("failed") == 2


def test_a_killed_worker_process_costs_nothing_and_a_second_death_fails_its_task(cluster, tmp_path):
    victim = tmp_path / "pid"
    tasks = [Task(function=note_and_hang_once, arguments=(victim,)), *[Task(function=who, arguments=(0.2,))] * 4]
    outcomes = {}
    for index, outcome in cluster.run(tasks):
        outcomes[index] = outcome
        if len(outcomes) == 2:  # the other worker is through half of its tasks: this one hangs by now
            os.kill(int(victim.read_text()), signal.SIGKILL)
    assert all(outcome.error is None for outcome in outcomes.values())
    assert outcomes[0].value != int(victim.read_text())
    twice = dict(cluster.run([Task(function=kill_myself), Task(function=who)]))
    assert twice[0].died and "its Ray worker died" in twice[0].error
    assert twice[1].error is None


def test_a_worker_that_hangs_is_killed_and_given_up(cluster, monkeypatch):
    monkeypatch.setattr(cluster._patience, "_limit", 2)
    outcomes = dict(cluster.run([Task(function=who, arguments=(600.0,)), Task(function=who)]))
    assert outcomes[0].error == "it hung: no result within 2 s, so its process was killed"
    assert outcomes[1].error is None


def test_a_call_left_in_the_middle_does_not_reach_into_the_next(cluster):
    for _ in cluster.run([Task(function=who), Task(function=who, arguments=(0.5,))]):
        break
    outcomes = dict(cluster.run([Task(function=who)] * 3))
    assert sorted(outcomes) == [0, 1, 2] and all(outcome.error is None for outcome in outcomes.values())


def test_a_machine_that_does_not_fit_says_so(tmp_path):
    with pytest.raises(PitpropError, match="file system that all machines share"):
        _Remote().ready({"folder": str(tmp_path / "elsewhere"), "path": [], "versions": _versions()})
    with pytest.raises(PitpropError, match=r"has python .*, torch .*; this machine has python .*, torch 0\.1"):
        _Remote().ready({"folder": str(tmp_path), "path": [], "versions": _versions() | {"torch": "0.1"}})


def test_what_cannot_be_reached_is_an_error(tmp_path):  # Ray's client tries for half a minute
    code = (
        "from pathlib import Path; from pitprop.trials.executors.place import open_executor\n"
        f"with open_executor('ray://127.0.0.1:1', 1, folder=Path({str(tmp_path)!r})): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "There is no Ray cluster to reach at `ray://127.0.0.1:1`" in done.stderr


@pytest.fixture(scope="module")
def head():
    """A cluster as a user starts it, of this machine alone, that wants a token: what `--on` may say, and the token."""
    token = {"RAY_AUTH_TOKEN": "0123456789abcdef" * 4, "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | token
    port, client_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
            *(f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={folder}"),
            *("--include-dashboard=false", f"--object-store-memory={2**27}"),
        ]
        with subprocess.Popen(
            command, env=environment | {"RAY_AUTH_MODE": "token"}, stdout=subprocess.PIPE, text=True
        ) as process:
            started = next((line for line in process.stdout if "Ray runtime started" in line), None)
            assert started is not None
            yield {"cluster": f"127.0.0.1:{port}", "client": f"ray://127.0.0.1:{client_port}"}, environment
            process.terminate()
            process.communicate(timeout=60)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def pitprop(*arguments, env=None):
    command = [sys.executable, "-m", "pitprop", *map(str, arguments), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)


@pytest.mark.parametrize("way", ["cluster", "client"])
def test_a_cluster_that_wants_a_token_runs_a_trial(head, reference, tmp_path, way):
    places, environment = head
    recipe = reference("recipes_tiny", "guilty")
    arm = ["--knob-arm", "pool=none", "--fork-step", "5", "--horizon", "20", "--seeds", "4"]
    # The third worker gets no CPU, and the proof of the fork, which needs a new process, does not wait for it.
    done = pitprop("trial", recipe, *arm, "--on", places[way], "--workers", 3, "--out", tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [c["verdict"] for c in found["comparisons"]] == ["better"] and found["fork"]["exact"] is True
    assert len(runs(tmp_path)) == 8 and not list(tmp_path.glob("pulses-*"))
    assert done.stderr == ""


def test_without_the_token_the_client_says_what_is_missing(head, tmp_path):
    places, environment = head
    environment = environment | {"RAY_AUTH_MODE": "disabled"}
    done = pitprop(
        "trial", "model_merging", "--ablate", "x", "--on", places["client"], "--out", tmp_path, env=environment
    )
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert "There is no Ray cluster to reach" in error["seen"] and "RAY_AUTH_MODE=token" in error["means"]
    assert "Traceback" not in done.stderr


def test_a_bisection_on_a_ray_of_its_own_leaves_nothing_behind(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text('norm = "none"\nlr = 1.0\ngate = true\n')
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": place}
        arguments = ["--bad", bad, "--on", "ray", "--workers", 2, "--out", tmp_path / "out"]
        done = pitprop("bisect", f"{HERE / 'recipes_bisect.py'}:together", *arguments, env=environment)
        assert list(Path(place).rglob("raylet.out")), "its Ray was here"
        until(lambda: not mentioning(place), 20)
    assert done.returncode == 1, done.stderr
    assert [c["changes"] for c in json.loads(done.stdout)["found"]["bringing"]] == [["lr", "norm"]]
    assert done.stderr == ""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_trial_that_resumes_and_no_process(reference, tmp_path, sent):
    recipe = reference("recipes_tiny", "guilty")
    arguments = ["trial", recipe, "--knob-arm", "pool=none", "--knob", "failing=slow", "--out", str(tmp_path / "out")]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": place}
        command = [sys.executable, "-m", "pitprop", *arguments, "--on", "ray", "--workers", "2"]
        # A shell that starts the tests in the background has them ignore SIGINT, and what they start inherits that.
        heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **heard) as parent:
            until(lambda: len(runs(tmp_path / "out")) >= 2, 120)
            parent.send_signal(sent)
            _, said = parent.communicate(timeout=60)
        until(lambda: not mentioning(place), 20)
    assert parent.returncode == 130
    assert (
        said.lstrip().startswith("interrupted; what was done is kept")
        and "--on ray" in said
        and "Traceback" not in said
    )
    kept = stamps(tmp_path / "out")
    assert 2 <= len(kept) < 16
    assert main([*arguments, "--workers", "2"]) == 0  # on this machine, and it goes on
    assert kept.items() <= stamps(tmp_path / "out").items() and len(runs(tmp_path / "out")) == 16


def mentioning(text: str) -> list[int]:
    """Processes with `text` on their command line."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if text.encode() in line.read_bytes():
                found.append(int(line.parent.name))
    return found


def test_a_driver_that_is_killed_leaves_a_trial_that_resumes(pool, tmp_path):
    command = [sys.executable, str(HERE / "trial_in_a_process.py"), str(tmp_path), "ray"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        until(lambda: len(runs(tmp_path)) >= 3)
        processes = descendants(driver.pid)
        workers = [pid for pid in processes if b"_Remote" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        driver.send_signal(signal.SIGKILL)
    assert len(workers) == 2
    until(lambda: not any(alive(pid) for pid in workers), 30)
    for pid in filter(alive, processes):  # Ray's own agents may outlive their raylet for a while
        os.kill(pid, signal.SIGKILL)
    kept = stamps(tmp_path)
    assert 3 <= len(kept) < 16
    results = run_plan(plan_of_the_process(), tmp_path, executor=pool)
    assert len(results) == 16 and all(record["status"] == "done" for record in results.values())
    assert kept.items() <= stamps(tmp_path).items()


NODE_KILLED = """
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
sys.path.insert(0, {here!r})
from trial_in_a_process import plan
from pitprop.trials import run_plan

machines = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1, "include_dashboard": False}})
second = machines.add_node(num_cpus=1)
ray.init(address=machines.address, log_to_driver=False)
done = []
def kill(known):
    done.append(1)
    if len(done) == 3:
        for process in second.all_processes["raylet"]:
            process.process.kill()
results = run_plan(plan(), {folder!r}, on="ray", workers=2, on_run=kill)
print("statuses", {{record["status"] for record in results.values()}}, len(results), len(done))
ray.shutdown()
machines.shutdown()
"""


def test_a_node_of_the_cluster_that_is_killed_costs_nothing(tmp_path):
    code = NODE_KILLED.format(here=str(HERE), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
    assert "statuses {'done'} 16 16" in done.stdout, done.stderr
