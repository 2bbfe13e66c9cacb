"""Signs of life: a worker touches a file while it works, and whoever waits for it looks whether the file has changed.

A file serves on this machine and on a file system that many share; no clocks are compared.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 5.0
"""A worker touches its file no more often than this."""


@dataclass
class _Pulse:
    file: Path | None = None
    due: float = 0.0


_PULSE = _Pulse()
"""Of this process; only a worker's has a file."""


def give(file: Path) -> None:
    """From now on `beat` touches `file`."""
    _PULSE.file, _PULSE.due = file, 0.0


def beat() -> None:
    """Say that the work in this process goes on; costs nothing where nobody listens."""
    if _PULSE.file is None or time.monotonic() < _PULSE.due:
        return
    _PULSE.due = time.monotonic() + EVERY_S
    with contextlib.suppress(OSError):  # a disk that is full, or away for a moment, is no reason to stop
        _PULSE.file.touch()


def felt(file: Path | None) -> int | None:
    """What changes with each beat; None before the first."""
    try:
        return file.stat().st_mtime_ns if file else None
    except OSError:
        return None
