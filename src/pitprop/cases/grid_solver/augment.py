"""Augmentation of ARC tasks, as TRM and seed 2 do it, each with its inverse for voting.

A change is one of the 8 symmetries of the square, then a permutation of the colours 1 to 9 (0 stays), both on every
grid of the task; a translation moves the grids of one pair on a canvas (see `canvas.py`), and isn't undone.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from pitprop.cases.grid_solver.tasks import NUM_COLOURS, Grid, Pair, Task


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A symmetry and a permutation of colours."""

    symmetry: int
    """0 to 7: that modulo 4 quarter turns, after a transposition from 4 on."""
    colours: Int[ndarray, " colour"]
    """New colour of each old one; the first is 0."""

    def apply(self, grid: Grid) -> Grid:
        """The changed grid."""
        turned = np.rot90(grid.T if self.symmetry >= 4 else grid, self.symmetry % 4)
        return self.colours[turned]

    def undo(self, grid: Grid) -> Grid:
        """`undo(apply(grid))` is `grid`."""
        turned = np.rot90(np.argsort(self.colours)[grid], -(self.symmetry % 4))
        return turned.T if self.symmetry >= 4 else turned


def identity() -> Change:
    """Changes nothing."""
    return Change(0, np.arange(NUM_COLOURS))


def draw(rng: np.random.Generator, *, symmetries: bool = True, colours: bool = True) -> Change:
    """A random change; what is switched off stays as it is."""
    permuted = 1 + rng.permutation(NUM_COLOURS - 1) if colours else np.arange(1, NUM_COLOURS)
    return Change(int(rng.integers(8)) if symmetries else 0, np.concatenate([[0], permuted]))


def changed(task: Task, change: Change) -> Task:
    """The task as it is after the change."""
    return Task(
        task.name,
        *(tuple(Pair(change.apply(p.input), change.apply(p.output)) for p in part) for part in (task.train, task.test)),
    )
