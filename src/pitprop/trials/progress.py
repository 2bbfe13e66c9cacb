"""Progress of a trial, told to whoever renders it; nothing here draws."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a trial is."""

    stage: str
    """What is going on, in words: "watching the control run", "screening 12 arms", ..."""
    done: int
    """Runs finished, over all stages."""
    total: int
    """Runs expected in all; a first guess until the screening round has chosen its winners."""
    remaining_s: float | None
    """Estimated seconds to the end; None before the first run has finished."""


OnProgress = Callable[[Progress], None]
"""What a renderer hands in."""


class Meter:
    """Counts runs and estimates the rest from the pace so far."""

    def __init__(self, tell: OnProgress | None, total: int):
        self.total, self.done, self.stage = total, 0, ""
        self._tell = tell
        self._start = time.monotonic()

    def enter(self, stage: str, total: int | None = None) -> None:
        """Begin a stage; `total` corrects the expected number of runs."""
        self.stage = stage
        if total is not None:
            self.total = total
        self._report()

    def tick(self) -> None:
        """One run is done."""
        self.done += 1
        self._report()

    def _report(self) -> None:
        if self._tell is None:
            return
        pace = (time.monotonic() - self._start) / self.done if self.done else None
        remaining = None if pace is None else pace * max(0, self.total - self.done)
        self._tell(Progress(stage=self.stage, done=self.done, total=self.total, remaining_s=remaining))
