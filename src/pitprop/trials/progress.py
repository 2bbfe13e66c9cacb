"""Progress of a trial, told to whoever renders it; nothing here draws."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


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


class OnRun(Protocol):
    """Told of each run that is there."""

    def __call__(self, *, known: bool) -> None:
        """`known`: it was there before, and took no time."""
        ...


class Meter:
    """Counts runs and estimates the rest from the pace of those that were run.

    What is between two runs (starting workers, a proof) is not counted as their pace, nor are runs that were there.
    """

    def __init__(self, tell: OnProgress | None, total: int):
        self.total, self.done, self.stage = total, 0, ""
        self.workers = 1
        """How many runs are under way at the same time."""
        self._tell = tell
        self._since = time.monotonic()
        self._ran, self._took = 0, 0.0

    def enter(self, stage: str, total: int | None = None) -> None:
        """Begin a stage; `total` corrects the expected number of runs."""
        self.stage, self._since = stage, time.monotonic()
        if total is not None:
            self.total = total
        self._report()

    def tick(self, *, known: bool = False) -> None:
        """One run is done."""
        self.done += 1
        if not known:
            now = time.monotonic()
            self._ran, self._took, self._since = self._ran + 1, self._took + now - self._since, now
        self._report()

    def _report(self) -> None:
        if self._tell is None:
            return
        # Right after one run has ended, the others under way are half done on average.
        ahead = (self.workers - 1) / 2
        left = max(0.0, self.total - self.done - ahead)
        remaining = self._took / (self._ran + ahead) * left if self._ran else None
        self._tell(Progress(stage=self.stage, done=self.done, total=self.total, remaining_s=remaining))
