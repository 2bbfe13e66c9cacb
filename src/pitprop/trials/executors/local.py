"""Spawned processes of this machine, one torch thread each, reused from run to run.

`concurrent.futures` gives up the whole pool when one worker dies, so this is a small pool of its own: one pipe per
worker; a worker that dies or hangs is started again and its task tried once more, and all of them die with their
parent. With more compute threads than cores OpenMP's threads spin while they wait for one another, hence one thread.
"""

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from pitprop._errors import PitpropError
from pitprop.trials.executors import Outcome, Task, pulse
from pitprop.trials.executors._attempts import Attempts, Job, Patience, call

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    pulse: Path
    ready: bool = False
    used: bool = False
    """Whether it has been given a task."""
    job: Job | None = None


class Local:
    """A pool of spawned processes; a context manager.

    Args:
        workers: Processes; default is the number of cores this process may use.
        log: File that takes what the workers print; None leaves it on the terminal.
        timeout_s: Seconds after which a task is taken to hang; default from its silence, see `Patience`.

    Raises:
        PitpropError: On entering: the log cannot be written.
    """

    def __init__(self, workers: int | None = None, *, log: Path | None = None, timeout_s: float | None = None):
        if workers is not None and workers < 1:
            raise PitpropError(f"{workers} workers cannot run anything.", do="give at least 1.")
        self.workers = workers or cores()
        self._log = log
        self._patience = Patience(timeout_s)
        self._pool: list[_Worker] = []
        self._calls = self._started = 0

    def __enter__(self) -> "Local":
        if self._log is not None:
            check_log(self._log)
        self._pulses = tempfile.TemporaryDirectory(prefix="pitprop-")
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
        self._pulses.cleanup()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Outcomes as they arrive; see `Executor.run`."""
        self._calls += 1
        attempts = Attempts(self._calls, tasks)
        while attempts.left:
            for worker in list(self._pool):
                if not worker.ready or worker.job is not None or not attempts.waiting:
                    continue
                if not attempts.suits(worker.used):
                    if attempts.makes_room():
                        worker.process.kill()
                        self._replace(worker)
                else:
                    worker.job, worker.used = attempts.take(worker.pulse), True
                    with contextlib.suppress(OSError):  # it died while idle: found below, by its closed pipe
                        worker.pipe.send(worker.job.task)
            for job, outcome in self._news():
                if (settled := attempts.settle(job, outcome)) is not None:
                    yield job.index, settled

    def _news(self) -> Iterator[tuple[Job, Outcome]]:
        """Wait until a worker says something or hangs; the jobs that are over by then."""
        patience = self._patience.left(worker.job for worker in self._pool if worker.job)
        heard = wait([worker.pipe for worker in self._pool], patience)
        for worker in list(self._pool):
            job = worker.job
            if worker.pipe in heard:
                outcome = self._hear(worker)
            else:
                outcome = self._patience.hung(job) if job else None
                if outcome is not None:
                    self._kill(worker)
                    self._replace(worker)
            if outcome is None or job is None:
                continue
            worker.job = None
            self._patience.learn(job, outcome)
            yield job, outcome

    def _hear(self, worker: _Worker) -> Outcome | None:
        """What a worker has to say, None for its first word; one that died is started again."""
        try:
            outcome = worker.pipe.recv()
        except (EOFError, OSError):
            code = self._replace(worker)
            name = f", {signal.strsignal(-code)}" if code and code < 0 else ""
            return Outcome(error=f"its process died (exit code {code}{name})", died=True)
        worker.ready = True
        return outcome

    def _kill(self, worker: _Worker) -> None:
        """End a worker that hangs, after it has said where."""
        if hasattr(signal, "SIGUSR1") and worker.process.pid:
            os.kill(worker.process.pid, signal.SIGUSR1)
            worker.process.join(timeout=0.5)
        worker.process.kill()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._started += 1
        file = Path(self._pulses.name, str(self._started))
        process = context.Process(target=_work, args=(theirs, file, self._log), daemon=True)
        # The child reads these before it imports numpy or torch; a spawned process takes them from here only.
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        return _Worker(process, ours, file)

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


def _work(pipe: Connection, file: Path, log: Path | None) -> None:
    """What a worker does: one task after another, until it is told to stop or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if log is not None:
        print_to(log)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1)
    pulse.give(file)
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone, and nobody waits for the result
        pipe.send(None)
        while (task := pipe.recv()) is not None:
            pipe.send(call(task))


def _die_with_parent() -> None:
    """A closed pipe is only noticed between two tasks; a task may take hours, or hang."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def print_to(log: Path) -> None:
    """Send what this process prints, also from below Python, to the end of the file `log`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)


def check_log(log: Path) -> None:
    """Raise where workers could not print to `log`: they would die of it, and could not say why."""
    try:
        log.open("a").close()
    except OSError as error:
        raise PitpropError(
            f"`{log}` cannot be written: {error.strerror}.", do="give another folder, or make room there."
        ) from error
