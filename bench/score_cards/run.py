"""Trains what the table says, watched, and keeps each trace under the hash of everything that made it.

Every step is measured (`every=1, budget=None`). The default schedule reads the wall clock, so no two of its traces are
the same; and most rules count rows, so a delay in steps of measured rows is what carries over: a user whose rows are
ten steps apart waits ten times as many steps.
"""

import hashlib
import inspect
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import pitprop
from score_cards.task import TEXT
from score_cards.variants import Variant, table

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "score_cards"
MEASURED_BY = ("watch", "indicators", "trace", "_array.py")
"""What of pitprop a trace depends on; rules are asked later."""


@dataclass(frozen=True, slots=True)
class Run:
    """A variant on one seed."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant.kind}/{self.variant.name}/{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its trace and `result.json` are, or will be."""
        variant = self.variant
        own = [repr((variant.kind, variant.model, dict(variant.knobs), variant.step, variant.until, self.seed))]
        own += [_source_of(f) for f in (variant.change, variant.undo, variant.truth) if f is not None]
        key = hashlib.sha256("\0".join([_common(), *own]).encode()).hexdigest()[:20]
        return CACHE / f"{variant.kind}-{variant.name}-{self.seed}-{key}"

    @property
    def result(self) -> dict | None:
        """`seconds`, `score` and, of a fault, `truth` and `took`; None while it has not run."""
        path = self.folder / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _source_of(function: object) -> str:
    """Source of a function with the values it closes over."""
    held = inspect.getclosurevars(function).nonlocals  # pyright: ignore[reportArgumentType]
    parts = [f"{name}={_source_of(value) if callable(value) else value!r}" for name, value in sorted(held.items())]
    return inspect.getsource(function) + ";".join(parts)  # pyright: ignore[reportArgumentType]


@cache
def _common() -> str:
    """What all runs share: the models, the loop, the text, what measures, and torch."""
    source = Path(pitprop.__file__).parent
    files = [TEXT, HERE / "task.py", *sorted((HERE / "models").glob("*.py"))]
    for place in MEASURED_BY:
        files += sorted((source / place).rglob("*.py")) if (source / place).is_dir() else [source / place]
    digest = hashlib.sha256((torch.__version__ + inspect.getsource(train)).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def runs(seeds: range, only: str | None = None) -> list[Run]:
    """Of every variant and seed, seed by seed; `only` leaves of the faults those of one rule."""
    variants = [v for v in table() if only is None or v.kind != "fault" or v.rule == only]
    return [Run(variant, seed) for seed in seeds for variant in variants]


def train(run: Run) -> dict:
    """Train one run under a watch and keep its trace; what is known already is not trained again."""
    if (known := run.result) is not None:
        return known
    torch.set_num_threads(1)
    began, variant = time.process_time(), run.variant
    # A folder without `result.json` was cut off: it begins anew.
    shutil.rmtree(run.folder, ignore_errors=True)
    torch.manual_seed(run.seed)
    task = variant.start()
    losses: list[float] = []
    with pitprop.watch(
        task.model, task.optimizer, run=run.folder, every=1, budget=None, rules=(), seed=run.seed, quiet=True
    ) as watch:
        for step in range(task.steps):
            if step == variant.step and variant.change is not None:
                variant.change(task)
            if step == variant.until and variant.undo is not None:
                variant.undo(task)
            loss, told = task.loss(*task.batch())
            task.optimizer.zero_grad()
            loss.backward()
            task.optimizer.step()
            watch.log(loss=loss, **told)
            losses.append(loss.item())
            task.after()
    task.model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        score = task.score()
        truth, took = variant.truth(task, losses) if variant.truth else (float("nan"), True)
    result = {"seconds": time.process_time() - began, "score": score, "truth": truth, "took": bool(took)}
    (run.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return result


def train_all(wanted: list[Run], workers: int) -> Iterator[tuple[Run, dict | Exception]]:
    """Every run with its result as they come, on `workers` processes, under a bar that says how long is left."""
    missing = [run for run in wanted if run.result is None]
    for run in wanted:
        if run not in missing:
            yield run, train(run)
    if not missing:
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with (
        Progress(*columns) as progress,
        ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        bar = progress.add_task("", total=len(missing))
        waiting = {pool.submit(train_by_name, run.variant.kind, run.variant.name, run.seed): run for run in missing}
        for done in as_completed(waiting):
            run = waiting[done]
            progress.update(bar, advance=1, description=run.name)
            error = done.exception()
            if isinstance(error, Exception):
                yield run, error
            else:
                yield run, done.result()


def train_by_name(kind: str, name: str, seed: int) -> dict:
    """`train` for another process: variants hold functions that can't be sent there."""
    [variant] = [v for v in table() if (v.kind, v.name) == (kind, name)]
    return train(Run(variant, seed))
