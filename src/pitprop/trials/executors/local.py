"""Spawned processes of this machine, one torch thread each, reused from run to run.

`concurrent.futures` gives up the whole pool when one worker dies, so this is a small pool of its own: one pipe per
worker; a worker that dies is started again and its task tried once more. With more compute threads than cores OpenMP's
threads spin while they wait for one another, hence one thread.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.executors import Outcome, Task

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
TRIES = 2
"""How often a task is tried whose worker dies."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    task: tuple[int, int] | None = None
    """Which call of `run`, and which of its tasks."""


class Local:
    """A pool of spawned processes; a context manager.

    Args:
        workers: Processes; default is the number of cores this process may use.
        log: File that takes what the workers print; None leaves it on the terminal.
    """

    def __init__(self, workers: int | None = None, *, log: Path | None = None):
        if workers is not None and workers < 1:
            raise PitpropError(f"{workers} workers cannot run anything.", do="give at least 1.")
        self.workers = workers or cores()
        self._log = log
        self._pool: list[_Worker] = []
        self._calls = 0

    def __enter__(self) -> "Local":
        self._pool = [self._start() for _ in range(self.workers)]
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        for worker in self._pool:
            if kind is None:
                with contextlib.suppress(OSError):
                    worker.pipe.send(None)
            else:
                worker.process.terminate()
        for worker in self._pool:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._pool = []

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Outcomes as they arrive; see `Executor.run`."""
        self._calls += 1
        call = self._calls
        waiting = deque(range(len(tasks)))
        tries = dict.fromkeys(waiting, 0)
        left = len(tasks)
        while left:
            for worker in self._pool:
                if worker.ready and worker.task is None and waiting:
                    worker.task = (call, waiting.popleft())
                    tries[worker.task[1]] += 1
                    with contextlib.suppress(OSError):  # it died while idle: found below, by its closed pipe
                        worker.pipe.send((worker.task, tasks[worker.task[1]]))
            for pipe in wait([worker.pipe for worker in self._pool]):
                worker = next(w for w in self._pool if w.pipe is pipe)
                task, outcome = self._hear(worker)
                # An earlier call may have been left in the middle; what its tasks became is nobody's business any more.
                if task is None or task[0] != call:
                    continue
                index = task[1]
                if outcome.died and tries[index] < TRIES:
                    waiting.appendleft(index)
                    continue
                left -= 1
                yield index, outcome

    def _hear(self, worker: _Worker) -> tuple[tuple[int, int] | None, Outcome]:
        """Which task of a worker is over, if any, and its outcome; a worker that died is started again."""
        task = worker.task
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            code = self._replace(worker)
            return task, Outcome(error=f"its process died (exit code {code})", died=True)
        if message is None:  # its first word: it has started
            worker.ready = True
            return None, Outcome()
        worker.task = None
        return message

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, str(self._log) if self._log else None), daemon=True)
        # The child reads these before it imports numpy or torch; a spawned process takes them from here only.
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, dead: _Worker) -> int | None:
        dead.process.join()
        dead.pipe.close()
        if not dead.ready:
            raise PitpropError(
                f"A worker process ended before it could start (exit code {dead.process.exitcode}).",
                means="Spawned processes import the main script again; a script that starts a trial while it is "
                "imported starts it there too.",
                do='put the call under `if __name__ == "__main__":`.',
            )
        self._pool[self._pool.index(dead)] = self._start()
        return dead.process.exitcode


def _work(pipe: Connection, log: str | None) -> None:
    """What a worker does: one task after another, until it is told to stop or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    if log is not None:
        _print_to(log)
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone, and nobody waits for the result
        pipe.send(None)
        while (message := pipe.recv()) is not None:
            which, task = message
            pipe.send((which, _try(task)))


def _try(task: Task) -> Outcome:
    try:
        return Outcome(value=task.function(*task.arguments))
    except PitpropError as error:
        return Outcome(error=str(error))
    except Exception as error:
        traceback.print_exc()  # in full into the log; the one line below is for the table
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(error=f"{type(error).__name__}: {error} (at {frame.filename}:{frame.lineno})")


def _print_to(log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)


def run_alone(task: Task, *, log: Path | None = None) -> Any:
    """The value of one task in a new process of its own.

    Raises:
        PitpropError: The task failed.
    """
    with Local(1, log=log) as alone:
        ((_, outcome),) = alone.run([task])
    if outcome.error is not None:
        raise PitpropError(outcome.error)
    return outcome.value
