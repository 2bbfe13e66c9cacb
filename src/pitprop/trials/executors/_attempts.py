"""What the executors share: how a task is called, how often it is tried, and how long it may take."""

import math
import statistics
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.executors import Outcome, Task

TRIES = 2
"""How often a task is tried whose worker dies or hangs."""

PATIENCE, FLOOR_S = 10, 60.0
"""Without a limit of the user's, a task hangs after so many times the median of its like, but not in a minute."""


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


@dataclass(frozen=True, slots=True)
class Job:
    """A task that a worker has: of which call of `run`, its index there, and since when."""

    call: int
    index: int
    task: Task
    since: float = field(default_factory=time.monotonic)


class Attempts:
    """The tasks of one call of `run`: which of them wait, and which may be tried again."""

    def __init__(self, call: int, tasks: Sequence[Task]):
        self.left = len(tasks)
        """Tasks without a final outcome."""
        self.waiting = deque(range(len(tasks)))
        self._call, self._tasks = call, tasks
        self._tries = dict.fromkeys(self.waiting, 0)

    def take(self) -> Job:
        """The next task that waits, for a worker that is idle now."""
        index = self.waiting.popleft()
        self._tries[index] += 1
        return Job(self._call, index, self._tasks[index])

    def settle(self, job: Job, outcome: Outcome) -> bool:
        """Whether `outcome` is the last word on `job`; otherwise its task waits again, in front.

        An earlier call may have been left in the middle; what its tasks became is nobody's business any more.
        """
        if job.call != self._call:
            return False
        if outcome.died and self._tries[job.index] < TRIES:
            self.waiting.appendleft(job.index)
            return False
        self.left -= 1
        return True


class Patience:
    """How long a job may take.

    Args:
        limit_s: Seconds; by default `PATIENCE` times the median of the finished tasks that call the same function, and
            not less than `FLOOR_S`. Before the first has finished there is no limit.
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
        """Seconds from its start after which `job` is taken to hang; infinite where nothing is known."""
        if self._limit is not None:
            return self._limit
        took = self._took.get(job.task.function)
        return max(FLOOR_S, PATIENCE * statistics.median(took)) if took else math.inf

    def left(self, jobs: Iterable[Job]) -> float | None:
        """Seconds until the first of `jobs` hangs; None for never, as in the timeouts of Python."""
        seconds = min((job.since + self.limit(job) - time.monotonic() for job in jobs), default=math.inf)
        return None if math.isinf(seconds) else max(0.0, seconds)

    def hung(self, job: Job) -> Outcome | None:
        """The outcome of a job that has taken too long."""
        limit = self.limit(job)
        if time.monotonic() - job.since < limit:
            return None
        return Outcome(error=f"it hung: no result within {limit:.3g} s, so its process was killed", died=True)
