"""Where a run comes from, gathered without importing or changing anything."""

import datetime
import math
import platform
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import numpy as np
import pytest

from pitprop.records import RunInfo
from pitprop.trace import collect, provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    git(tmp_path, "init")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commit_and_changes(repository):
    assert collect("a").git_commit is None, "a repository without commits"
    Path("train.py").write_text("1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "first")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    Path("runs").mkdir()
    Path("runs/trace.sqlite").touch()
    assert collect("a").git_commit == head, "untracked files do not count"
    Path("train.py").write_text("2\n")
    index = (repository / ".git" / "index").read_bytes()
    assert collect("a").git_commit == head + "+dirty"
    assert (repository / ".git" / "index").read_bytes() == index, "looking changes nothing"


def test_without_git_or_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert collect("a").git_commit is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert collect("a").git_commit is None


def test_what_is_collected():
    config = {"lr": 0.1, "data": PurePosixPath("a/b"), "dtype": np.float32, "more": MappingProxyType({"x": (1, 2)})}
    info = collect("run", config, seed=4, device="cuda:0")
    assert (info.name, info.seed, info.device) == ("run", 4, "cuda:0")
    assert info.command == tuple(sys.orig_argv)
    assert info.config == {"lr": 0.1, "data": "a/b", "dtype": "<class 'numpy.float32'>", "more": {"x": [1, 2]}}
    assert info.packages["python"] == platform.python_version() and info.packages["numpy"] == np.__version__
    started = datetime.datetime.fromisoformat(info.started)
    assert started.utcoffset() == datetime.timedelta(0)
    assert abs(started - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=5)
    assert provenance.from_json(provenance.to_json(info)) == info


def test_it_imports_no_framework():
    script = (
        "import sys; from pitprop.trace import collect; print(collect('a').packages); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "numpy" in done.stdout


def test_json_keeps_nan_and_ignores_fields_of_the_future():
    info = RunInfo(name="a", started="now", config={"x": math.nan})
    text = provenance.to_json(info)
    assert math.isnan(provenance.from_json(text).config["x"])
    assert provenance.from_json(text[:-1] + ', "weather": "fine"}').name == "a"
