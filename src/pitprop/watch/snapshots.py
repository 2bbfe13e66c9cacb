"""Snapshots of a watched run: at log-spaced steps, inside a disk budget, the last good one always among them.

A run folder then holds `snapshots/step-N/`, the state after N optimizer steps (before the step whose rows bear the
number N). It is what `pitprop rescue` goes back to.
"""

import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pitprop._errors import PitpropError
from pitprop.records import Finding

FOLDER = "snapshots"
RECENT = 3
"""Newest snapshots that are thinned last: a failure is detected some time after it began."""

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """How snapshots are taken.

    Args:
        budget_gib: Disk that they may take, in GiB; beyond it they are thinned.
        ratio: Step of a snapshot over the step of the one before. 1.25 is about ten in a decade of steps.

    Raises:
        PitpropError: The budget is not above 0, or the ratio not above 1.
    """

    budget_gib: float
    ratio: float = 1.25

    def __post_init__(self):
        if not self.budget_gib > 0:
            raise PitpropError(
                f"A disk budget of {self.budget_gib} GiB for snapshots.", do="give more than 0, or leave it out."
            )
        if not self.ratio > 1:
            raise PitpropError(
                f"A ratio of {self.ratio} between the steps of two snapshots.",
                means="The steps of snapshots grow by it; their number must stay bounded.",
                do="give more than 1.",
            )


class Keeper:
    """Decides when a snapshot is due, has it written, and thins the others to the budget.

    Args:
        folder: Folder of the run. Snapshots that are there already are kept and counted, unless `fresh`.
        how: Budget and spacing.
        write: `write(folder)` writes a snapshot, whole or not at all, and returns its bytes.
        fresh: Remove the snapshots of an earlier run first.
    """

    def __init__(self, folder: Path, how: Snapshots, write: Callable[[Path], int], *, fresh: bool = False):
        self._folder, self._how, self._write = folder / FOLDER, how, write
        for old in taken(folder).values() if fresh else ():
            shutil.rmtree(old)
        for torn in self._folder.glob("step-*.part"):
            shutil.rmtree(torn, ignore_errors=True)  # of a writer that was killed
        self._bytes = {step: folder_bytes(path) for step, path in taken(folder).items()}
        self._due = max((self._after(step) for step in self._bytes), default=0)

    def due(self, step: int) -> bool:
        """Whether the spacing asks for a snapshot at `step`."""
        return step >= self._due

    def take(self, step: int, findings: Iterable[Finding], estimate: int) -> None:
        """Write the snapshot of `step`, and make room for it first.

        Args:
            step: Optimizer steps taken so far.
            findings: Of the run so far; they say which snapshot is the last good one.
            estimate: Bytes that it will take, about.

        Raises:
            PitpropError: The budget has no room for two, so that a last good one can't be held beside the newest.
            OSError, RuntimeError: It can't be written.
        """
        self._due = self._after(step)
        if step in self._bytes:
            return
        budget = self._how.budget_gib * GIB
        need = max(estimate, *self._bytes.values(), 0) if self._bytes else estimate
        if 2 * need > budget:
            raise PitpropError(
                f"A snapshot takes {need / GIB:.3g} GiB, the budget is {self._how.budget_gib:g} GiB.",
                means=f"There must be room for two, the last good one and the newest; none was taken at step {step}.",
                do=f"give snapshots={math.ceil(20 * need / GIB) / 10:g} or more.",
            )
        good = last_good(self._bytes, findings)
        self._thin(budget - need, good)
        self._bytes[step] = self._write(self._folder / f"step-{step}")
        self._thin(budget, good if first_onset(findings) is not None else step)

    def describe(self, findings: Iterable[Finding]) -> dict:
        """What is there, as JSON values."""
        return {
            "steps": sorted(self._bytes),
            "last_good": last_good(self._bytes, findings),
            "bytes": sum(self._bytes.values()),
            "budget_gib": self._how.budget_gib,
            "ratio": self._how.ratio,
        }

    def _after(self, step: int) -> int:
        return max(step + 1, math.ceil(step * self._how.ratio))

    def _thin(self, room: float, good: int | None) -> None:
        """Remove snapshots until they fit in `room` bytes: where they lie closest, never the last good one.

        The first, the way back of a run that never was good, goes after all but the newest.
        """
        while sum(self._bytes.values()) > room:
            first, newest = min(self._bytes), max(self._bytes)
            free = [step for step in sorted(self._bytes) if step != good]
            later = [step for step in free if step != first]
            old = [step for step in later if step != newest]
            crowded = thinnest(sorted(self._bytes), later[:-RECENT] or old or [s for s in free if s != newest] or free)
            if crowded is None:
                return
            shutil.rmtree(self._folder / f"step-{crowded}")
            del self._bytes[crowded]


def thinnest(steps: list[int], candidates: list[int]) -> int | None:
    """The candidate whose removal leaves the smallest gap on a log scale; None where there is no candidate."""

    def gap(step: int) -> float:
        at = steps.index(step)
        before = steps[at - 1] if at else -1
        after = steps[at + 1] if at + 1 < len(steps) else step
        return math.log(after + 2) - math.log(before + 2)

    return min(candidates, key=gap, default=None)


def taken(run: Path) -> dict[int, Path]:
    """Step -> folder of every whole snapshot in the folder of a run, ascending."""
    found = {
        int(match[1]): path
        for path in (run / FOLDER).glob("step-*")
        if (match := re.fullmatch(r"step-(\d+)", path.name))
    }
    return dict(sorted(found.items()))


def first_onset(findings: Iterable[Finding]) -> int | None:
    """Step at which the first failure began; None where there is none."""
    return min((finding.onset for finding in findings if finding.severity == "failure"), default=None)


def last_good(steps: Iterable[int] | Mapping[int, object], findings: Iterable[Finding]) -> int | None:
    """The latest of `steps` at which no failure had begun: before its onset, or the initial state."""
    onset = first_onset(findings)
    good = [step for step in steps if onset is None or step < onset or step == 0]
    return max(good, default=None)


def folder_bytes(folder: Path) -> int:
    """Size of the files in `folder`."""
    return sum(file.stat().st_size for file in folder.iterdir())
