"""Trains what the table says, watched, and keeps each trace under the hash of everything that made it.

Every step is measured (`every=1, budget=None`). The default schedule reads the wall clock, so no two of its traces are
the same; and most rules count rows, so a delay in steps of measured rows is what carries over: a user whose rows are
ten steps apart waits ten times as many steps.
"""

import hashlib
import inspect
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import pitprop
from score_cards.task import TEXT
from score_cards.variants import Variant, table

T = TypeVar("T")
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
        return CACHE / f"{self.variant.kind}-{self.variant.name}-{self.seed}-{_address(self)}"

    @property
    def result(self) -> dict | None:
        """`seconds`, `score` and, of a fault, `truth` and `took`; None while it has not run."""
        path = self.folder / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@cache
def _address(run: Run) -> str:
    """Hash of everything that makes a run, as this process knows it, whatever is edited meanwhile."""
    variant = run.variant
    own = [repr((variant.kind, variant.model, dict(variant.knobs), variant.step, variant.until, run.seed))]
    own += [_source_of(f) for f in (variant.change, variant.undo, variant.truth) if f is not None]
    return hashlib.sha256("\0".join([_common(), *own]).encode()).hexdigest()[:20]


def _source_of(function: Callable, seen: frozenset[str] = frozenset()) -> str:
    """Source of a function, of what it closes over and of what it calls of this bench."""
    plain = inspect.unwrap(function)
    used = inspect.getclosurevars(plain)
    ours = {name: value for name, value in used.globals.items() if _is_ours(value) and name not in seen}
    parts = [inspect.getsource(plain)]
    for name, value in sorted({**used.nonlocals, **ours}.items()):
        parts.append(f"{name}=" + (_source_of(value, seen | set(ours)) if inspect.isroutine(value) else repr(value)))
    return "\n".join(parts)


def _is_ours(value: object) -> bool:
    return inspect.isroutine(value) and str(getattr(value, "__module__", "")).startswith("score_cards")


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


def runs(seeds: range, only: Sequence[str] | None = None) -> list[Run]:
    """Of every variant and seed, seed by seed; `only` leaves of the faults those of these rules."""
    variants = [v for v in table() if only is None or v.kind != "fault" or v.rule in only]
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


def run_all(
    wanted: list[Run], workers: int, work: Callable[[str, str, int], T]
) -> Iterator[tuple[Run, T | BaseException]]:
    """What `work` returns for every run, as it comes, from `workers` processes, under a bar that says how long is left.

    Variants hold functions that can't be sent to a process, so `work` gets kind, name and seed; `find` gives the run.
    """
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    # Spawned: a fork while the bar's thread draws could keep its lock for ever.
    with Progress(*columns) as progress, ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        bar = progress.add_task("", total=len(wanted))
        waiting = {pool.submit(work, run.variant.kind, run.variant.name, run.seed): run for run in wanted}
        try:
            for done in as_completed(waiting):
                progress.update(bar, advance=1, description=waiting[done].name)
                yield waiting[done], done.exception() or done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def find(kind: str, name: str, seed: int) -> Run:
    """The run of the table with these."""
    [variant] = [v for v in table() if (v.kind, v.name) == (kind, name)]
    return Run(variant, seed)
