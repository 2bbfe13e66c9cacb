"""Where a run comes from: gathered when it starts, stored as JSON in its trace."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from pitprop.records import RunInfo

PACKAGES = ("numpy", "torch", "jax", "pitprop")
"""Packages whose version can change a number; python itself is always recorded."""


def collect(
    name: str, config: Mapping[str, object] | None = None, seed: int | None = None, device: str = ""
) -> RunInfo:
    """Everything known about the run that starts now. Imports none of the packages it names the versions of.

    Args:
        name: Name of the run.
        config: The run's configuration; what JSON does not know (a path, a dtype) is kept as its `str`.
        seed: Seed, where known.
        device: Device of the model.

    Returns:
        The record; `git_commit` is None outside a repository or without git.
    """
    return RunInfo(
        name=name,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=tuple(sys.orig_argv),
        config=json.loads(json.dumps(dict(config or {}), default=_plain, skipkeys=True)),
        packages={"python": platform.python_version()} | {p: v for p in PACKAGES if (v := _version(p))},
        git_commit=_git_commit(Path.cwd()),
        seed=seed,
        device=device,
    )


def to_json(info: RunInfo) -> str:
    """The record as JSON; NaN and infinity are written as Python's `json` writes them."""
    return json.dumps({field.name: getattr(info, field.name) for field in fields(info)}, default=_plain)


def from_json(text: str) -> RunInfo:
    """The record back from JSON; tuples inside `config` come back as lists, unknown fields are left out."""
    known = {field.name for field in fields(RunInfo)}
    values = {key: value for key, value in json.loads(text).items() if key in known}
    return RunInfo(**{**values, "command": tuple(values.get("command", ()))})


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit(folder: Path) -> str | None:
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    # Untracked files are left out: the run folder itself is usually one.
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if changes is None:
        return f"{commit}+unknown"
    return f"{commit}+dirty" if changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    # Without optional locks `git status` only looks; it would refresh the user's index otherwise.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, env=environment, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
