"""ARC tasks: what one is, and the reader of the published JSON.

A task is a few pairs of grids that show a transformation, and test pairs to apply it to. A grid has 1 to 30 rows and
columns of colours 0 to 9; 0 is background. Format: F. Chollet, github.com/fchollet/ARC-AGI (Apache-2.0).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from pitprop._errors import PitpropError

NUM_COLOURS, LARGEST = 10, 30

Grid = Int[ndarray, "row column"]


class Pair(NamedTuple):
    """Before and after; the two may differ in size."""

    input: Grid
    output: Grid


@dataclass(frozen=True, slots=True)
class Task:
    """One transformation, shown and asked for."""

    name: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def largest_side(self) -> int:
        """Most rows or columns of any of its grids."""
        return max(side for pair in self.train + self.test for grid in pair for side in grid.shape)


def read_folder(folder: Path, *, largest: int = LARGEST) -> list[Task]:
    """All tasks in a folder of `*.json` (its subfolders too), by name, but for those with a grid over `largest`.

    Raises `PitpropError` where there is none, or where a file isn't a task.
    """
    if not folder.is_dir():
        raise PitpropError(
            f"{folder} is not a folder", do="--data DIR: a folder of ARC tasks, for example ARC-AGI/data/training"
        )
    files = sorted(folder.rglob("*.json"))
    tasks = [task for task in map(read_task, files) if task.largest_side <= largest]
    if not tasks:
        raise PitpropError(
            f"{folder} has no task with grids of at most {largest} x {largest} ({len(files)} JSON files)",
            do="--data DIR: a folder of ARC tasks, for example ARC-AGI/data/training",
        )
    return tasks


def read_task(path: Path) -> Task:
    """One task; raises `PitpropError` where the file isn't one."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _not_a_task(path, str(error)) from error
    parts = []
    for part in ("train", "test"):
        pairs = document.get(part) if isinstance(document, dict) else None
        if not isinstance(pairs, list) or not pairs:
            raise _not_a_task(path, f"it has no list `{part}`")
        parts.append(tuple(_pair(path, f"{part}[{i}]", pair) for i, pair in enumerate(pairs)))
    return Task(path.stem, *parts)


def _pair(path: Path, where: str, pair: Any) -> Pair:
    if not isinstance(pair, dict) or not {"input", "output"} <= pair.keys():
        raise _not_a_task(path, f"{where} is no pair of `input` and `output`")
    return Pair(*(_grid(path, f"{where}.{side}", pair[side]) for side in ("input", "output")))


def _grid(path: Path, where: str, rows: Any) -> Grid:
    try:
        grid = np.array(rows)
    except ValueError:
        grid = np.array(None)
    if grid.ndim != 2 or grid.dtype.kind != "i" or not 1 <= max(grid.shape) <= LARGEST or 0 in grid.shape:
        raise _not_a_task(path, f"{where} is no grid of 1 to {LARGEST} rows and columns of whole numbers")
    if grid.min() < 0 or grid.max() >= NUM_COLOURS:
        raise _not_a_task(path, f"{where} has colours outside of 0 to {NUM_COLOURS - 1}")
    return grid.astype(np.int64)


def _not_a_task(path: Path, why: str) -> PitpropError:
    return PitpropError(f"{path} is not an ARC task: {why}", do="give a folder that holds tasks and nothing else")
