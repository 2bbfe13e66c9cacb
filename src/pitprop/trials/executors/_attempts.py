"""What the executors share: how a task is called, how often it is tried, and how long it may be silent."""

import statistics
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.executors import Outcome, Task
from pitprop.trials.executors.pulse import felt

TRIES = 2
"""How often a task is tried whose worker dies or hangs."""

PATIENCE, FLOOR_S, CEILING_S = 10, 60.0, 3600.0
"""Without a limit of the user's, a task hangs after a silence of so many times the median duration of its like, but not
in a minute; and always after an hour, which is also what the first of its kind has."""

LOOK_S = 15.0
"""How often it is looked whether a task that runs is silent."""


def call(task: Task) -> Outcome:
    """Make the call of `task`, in the worker; what it raises becomes an outcome."""
    try:
        return Outcome(value=task.function(*task.arguments))
    except PitpropError as error:
        return Outcome(error=str(error))
    except Exception as error:
        traceback.print_exc()  # in full into the log; the one line below is for the table
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(error=f"{type(error).__name__}: {error} (at {frame.filename}:{frame.lineno})")


@dataclass(slots=True)
class Job:
    """A task that a worker has: of which call of `run`, its index there, since when, and when it last gave a sign."""

    call: int
    index: int
    task: Task
    since: float = field(default_factory=lambda: time.monotonic())
    pulse: Path | None = None
    """The worker's file, see `pulse`."""
    heard: float = field(init=False)
    _felt: int | None = field(init=False)

    def __post_init__(self):
        self.heard, self._felt = self.since, felt(self.pulse)

    def feel(self) -> None:
        """Look for a sign of life."""
        now = felt(self.pulse)
        if now != self._felt:
            self.heard, self._felt = time.monotonic(), now


class Attempts:
    """The tasks of one call of `run`: which of them wait, and which may be tried again."""

    def __init__(self, call: int, tasks: Sequence[Task]):
        self.left = len(tasks)
        """Tasks without a final outcome."""
        self.waiting = deque(range(len(tasks)))
        self._call, self._tasks = call, tasks
        self._tries = dict.fromkeys(self.waiting, 0)
        self._room_made: set[int] = set()

    def suits(self, used: bool) -> bool:
        """Whether a task waits and its turn may come in a process that has been `used`."""
        return bool(self.waiting) and not (used and self._tasks[self.waiting[0]].fresh)

    def makes_room(self) -> bool:
        """Whether a used process is to be renewed for the task whose turn it is; one is enough."""
        first = self.waiting[0]
        if first in self._room_made:
            return False
        self._room_made.add(first)
        return True

    def take(self, pulse: Path | None) -> Job:
        """The next task that waits, for a worker that is idle now and has that pulse."""
        index = self.waiting.popleft()
        self._tries[index] += 1
        return Job(self._call, index, self._tasks[index], pulse=pulse)

    def settle(self, job: Job, outcome: Outcome) -> Outcome | None:
        """`outcome` where it is the last word on `job`; otherwise None, and its task waits again, in front.

        An earlier call may have been left in the middle; what its tasks became is nobody's business any more.
        """
        if job.call != self._call:
            return None
        if outcome.died and self._tries[job.index] < TRIES:
            self.waiting.appendleft(job.index)
            return None
        self.left -= 1
        return replace(outcome, restarts=self._tries[job.index] - 1)


class Patience:
    """How long a job may take.

    Args:
        limit_s: Seconds from its start. By default what counts is silence, the time since a step of its training ended
            (or since its start, where none has): `PATIENCE` times the median duration of the finished tasks that call
            the same function, between `FLOOR_S` and `CEILING_S`; before the first has finished, `CEILING_S`.
    """

    def __init__(self, limit_s: float | None):
        if limit_s is not None and not limit_s > 0:
            raise PitpropError(f"A run cannot end within {limit_s:g} seconds.", do="give a timeout above 0.")
        self._limit = limit_s
        self._took: dict[Callable[..., Any], list[float]] = {}

    def learn(self, job: Job, outcome: Outcome) -> None:
        """A job is over; what failed says nothing of how long success takes."""
        if outcome.error is None:
            self._took.setdefault(job.task.function, []).append(time.monotonic() - job.since)

    def limit(self, job: Job) -> float:
        """Seconds after which `job` is taken to hang."""
        if self._limit is not None:
            return self._limit
        took = self._took.get(job.task.function)
        return min(CEILING_S, max(FLOOR_S, PATIENCE * statistics.median(took))) if took else CEILING_S

    def left(self, jobs: Iterable[Job]) -> float | None:
        """Seconds after which `jobs` are to be looked at; None for never, as in the timeouts of Python."""
        seconds = min((job.heard + self.limit(job) - time.monotonic() for job in jobs), default=None)
        if seconds is None:
            return None
        return max(0.0, seconds if self._limit is not None else min(LOOK_S, seconds))

    def hung(self, job: Job) -> Outcome | None:
        """The outcome of a job that has taken too long, or has been silent for too long."""
        if self._limit is None:
            job.feel()
        limit = self.limit(job)
        if time.monotonic() - job.heard < limit:
            return None
        if self._limit is not None:
            return Outcome(error=f"it hung: no result within {limit:.3g} s, so its process was killed", died=True)
        return Outcome(
            error=f"it hung: no step ended within {limit:.3g} s, so its process was killed (--timeout-s sets a limit)",
            died=True,
        )
