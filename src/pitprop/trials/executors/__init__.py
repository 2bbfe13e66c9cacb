"""Executors: where the runs of a trial are executed. One contract, `Executor`; `local` is this machine, `ray` many.

`place.open_executor` makes the one that a user names.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A call to make somewhere else: a module-level function and what it is called with (all of it picklable)."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    fresh: bool = False
    """Whether it needs a process that has run nothing before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task: a value, or the text of an error."""

    value: Any = None
    error: str | None = None
    """Why there is no value; None when there is one."""
    died: bool = False
    """Whether the process that ran it is gone."""
    restarts: int = 0
    """How often it was tried again after its process had died or was killed because it hung."""


class Executor(Protocol):
    """Runs tasks, in any order, and hands over each outcome as it arrives."""

    @property
    def workers(self) -> int:
        """How many tasks run at the same time."""
        ...

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """`(index of the task, outcome)` as they arrive. A task that fails is an outcome, not an exception."""
        ...
