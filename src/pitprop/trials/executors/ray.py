"""Workers on a Ray cluster: one actor each, one CPU and one torch thread, reused from run to run.

Ray places the workers and tells when one is gone; what is tried again and what hangs is decided here, as for `Local`,
so that both executors give the same outcomes. Results come back to the driver, which alone writes records.
"""

import contextlib
import logging
import os
import platform
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

import pitprop
from pitprop._errors import PitpropError
from pitprop.trials.executors import Outcome, Task, pulse
from pitprop.trials.executors._attempts import TRIES, Attempts, Job, Patience, call
from pitprop.trials.executors.local import check_log, cores, print_to

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Nothing is sent to anyone; and a worker that asks Ray for no GPU still sees its machine's, as a local one does."""

STORE_BYTES = 128 * 2**20
"""Object store of a Ray started here; what travels is a few kilobytes per run."""


TOKEN = (
    "A cluster that wants a token often says nothing else: it must be in ~/.ray/auth_token or RAY_AUTH_TOKEN here too, "
    "and RAY_AUTH_MODE=token set before Ray is imported."
)


class _Remote:
    """What lives in a worker."""

    def ready(self, given: dict[str, Any]) -> None:
        """`given` is what `_start` gives; one mapping, for another version of this class is to object in words."""
        sys.path.extend(place for place in given["path"] if place not in sys.path)  # as in a spawned process
        import torch

        folder = Path(given["folder"])
        if (here := _versions()) != (driver := given["versions"]):
            raise PitpropError(
                f"{platform.node()}, of the Ray cluster, has {_listed(here)}; this machine has {_listed(driver)}.",
                means="Pairs of runs would differ by more than the change.",
                do="install the same versions everywhere.",
                read="docs/executors.md",
            )
        if not folder.is_dir():
            raise PitpropError(
                f"There is no folder `{folder}` on the machine {platform.node()} of the Ray cluster.",
                means="Traces and forks are written where a run happens, and read by the others.",
                do="give a folder on a file system that all machines share.",
                read="docs/executors.md",
            )
        print_to(folder / "workers.log")
        pulse.give(Path(given["pulse"]))
        torch.set_num_threads(1)

    def call(self, task: Task) -> Outcome:
        return call(task)


@dataclass(eq=False)
class _Worker:
    actor: Any
    pending: Any
    """Reference to what the actor is asked for now; None while it is idle."""
    pulse: Path
    ready: bool = False
    used: bool = False
    """Whether it has been given a task."""
    job: Job | None = None


class Ray:
    """A pool of Ray actors; a context manager. A Ray that is already connected to is used, and left as it was.

    Args:
        on: `ray`, `host:port` or `ray://host:port`, as for `open_executor`.
        workers: Actors; default is the number of CPUs of the cluster.
        folder: Folder of the trial, on a file system that all machines of the cluster share.
        timeout_s: Seconds after which a task is taken to hang; default from its silence, see `Patience`.

    Raises:
        PitpropError: On entering: there is no such cluster, or the folder cannot be written. On running: a machine of
            the cluster does not see the folder or has other versions, or the connection to the cluster is lost.
    """

    def __init__(self, on: str = "ray", workers: int | None = None, *, folder: Path, timeout_s: float | None = None):
        if workers is not None and workers < 1:
            raise PitpropError(f"{workers} workers cannot run anything.", do="give at least 1.")
        self.workers = workers or 0
        self._on, self._folder = on, folder.resolve()
        self._patience = Patience(timeout_s)
        self._pool: list[_Worker] = []
        self._calls = self._started = self._false_starts = 0
        self._disconnect = False

    def __enter__(self) -> "Ray":
        check_log(self._folder / "workers.log")
        if not ray.is_initialized():
            _connect(self._on, self.workers or cores())
            self._disconnect = True
        self.workers = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._pulses = tempfile.TemporaryDirectory(prefix="pulses-", dir=self._folder)
        self._pool = [self._start() for _ in range(self.workers)]
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(ConnectionError, RayError):  # a cluster that is gone has no workers left
            for worker in self._pool:
                ray.kill(worker.actor)
        self._pool = []
        self._pulses.cleanup()
        if self._disconnect:
            ray.shutdown()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Outcomes as they arrive; see `Executor.run`."""
        self._calls += 1
        attempts = Attempts(self._calls, tasks)
        while attempts.left:
            try:
                self._hand_out(attempts)
                news = list(self._news())
            except ConnectionError as error:
                raise PitpropError(
                    f"The connection to the Ray cluster is lost: {_first_line(error)}",
                    means="Runs that had ended are kept.",
                    do="start the same again, there or elsewhere; it goes on from what is kept.",
                    read="docs/executors.md",
                ) from error
            for job, outcome in news:
                if (settled := attempts.settle(job, outcome)) is not None:
                    yield job.index, settled

    def _hand_out(self, attempts: Attempts) -> None:
        for worker in list(self._pool):
            if not worker.ready or worker.job is not None or not attempts.waiting:
                continue
            if not attempts.suits(worker.used):
                if attempts.makes_room():
                    self._replace(worker)
            else:
                worker.job, worker.used = attempts.take(worker.pulse), True
                worker.pending = worker.actor.call.remote(worker.job.task)

    def _news(self) -> Iterator[tuple[Job, Outcome]]:
        """Wait until a worker answers or hangs; the jobs that are over by then."""
        patience = self._patience.left(worker.job for worker in self._pool if worker.job)
        pending = [worker.pending for worker in self._pool if worker.pending is not None]
        heard, _ = ray.wait(pending, timeout=patience)
        for worker in list(self._pool):
            job = worker.job
            if worker.pending in heard:
                outcome = self._hear(worker)
            else:
                outcome = self._patience.hung(job) if job else None
                if outcome is not None:
                    self._replace(worker)
            if outcome is None or job is None:
                continue
            worker.job = None
            self._patience.learn(job, outcome)
            yield job, outcome

    def _hear(self, worker: _Worker) -> Outcome | None:
        """What a worker answers, None for its first word; one that is gone is started again."""
        pending, worker.pending = worker.pending, None
        try:
            answer: Any = ray.get(pending)
        except RayTaskError as error:
            if worker.ready:
                return Outcome(error=f"its call did not come through Ray: {error.cause!r}")
            raise _unfit(error.cause) from error
        except RayError as error:
            self._replace(worker)
            if not worker.ready:
                self._false_starts += 1
                if self._false_starts >= TRIES * self.workers:
                    raise _unfit(error) from error
            return Outcome(error=f"its Ray worker died: {_first_line(error)}", died=True)
        worker.ready, self._false_starts = True, 0
        return answer

    def _start(self) -> _Worker:
        self._started += 1
        file = Path(self._pulses.name, str(self._started))
        # Ray gives a worker of one CPU OMP_NUM_THREADS=1.
        actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Remote).remote()
        given = {"folder": str(self._folder), "pulse": str(file), "path": sys.path, "versions": _versions()}
        return _Worker(actor, actor.ready.remote(given), file)

    def _replace(self, gone: _Worker) -> None:
        with contextlib.suppress(RayError):
            ray.kill(gone.actor)
        self._pool[self._pool.index(gone)] = self._start()


def _connect(on: str, workers: int) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)  # its client speaks before it reads the level it is given
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS") if on == "ray" else on
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings(action="ignore"):  # of forks that do nothing but execute; what matters raises
            if address:
                ray.init(address=address, **common)
            else:  # never the cluster that happens to run here: it may be somebody else's, or its address stale
                ray.init(
                    address="local",
                    num_cpus=workers,
                    include_dashboard=False,
                    object_store_memory=STORE_BYTES,
                    **common,
                )
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise PitpropError(
            f"There is no Ray cluster to reach at `{address or 'this machine'}`: {_first_line(error)}",
            means=TOKEN if address else "",
            do="check the address and the versions of Ray and Python on both sides; or say `local`.",
            read="docs/executors.md",
        ) from error
    if callable(terminated) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)  # Ray has put its own there, which ends the process at once


def _versions() -> dict[str, str]:
    """Of what decides numbers, and of what must fit together."""
    import torch

    versions = {"pitprop": pitprop.__version__, "torch": torch.__version__, "numpy": np.__version__}
    return {"python": platform.python_version()} | versions


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _unfit(error: Exception) -> PitpropError:
    if isinstance(error, PitpropError):
        return error
    return PitpropError(
        f"A worker of the Ray cluster could not start: {type(error).__name__}: {_first_line(error)}",
        means="Every machine of the cluster needs pitprop, torch and the recipe, in the same versions.",
        do="install them there, or send them with a runtime environment; have the same RAY_AUTH_MODE everywhere.",
        read="docs/executors.md",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
