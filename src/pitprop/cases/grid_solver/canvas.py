"""Tasks as arrays of one size: grids in the corner (or shifted), the rest marked as padding."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pitprop._errors import PitpropError
from pitprop.cases.grid_solver.tasks import NUM_COLOURS, Grid, Pair, Task

PAD = NUM_COLOURS
"""Colour of cells outside of an input's grid."""
IGNORED = -100
"""Target of cells outside of an output's grid."""


class Batch(NamedTuple):
    """Tasks with their shown pairs and one asked pair each."""

    inputs: Int[Tensor, "task row column"]
    """Asked input, padded by `PAD`."""
    targets: Int[Tensor, "task row column"]
    """Wanted output, padded by `IGNORED`."""
    shown_inputs: Int[Tensor, "task pair row column"]
    shown_outputs: Int[Tensor, "task pair row column"]
    """Padded by `PAD`; pairs that aren't there are all `PAD`."""
    shown: Bool[Tensor, "task pair"]
    """Which shown pairs are there."""


def place(grid: Grid, size: int, fill: int, at: tuple[int, int] = (0, 0)) -> Grid:
    """`grid` on a `size` x `size` canvas of `fill`, its first cell at `at`; a `PitpropError` where it doesn't fit."""
    (rows, columns), (top, left) = grid.shape, at
    if top + rows > size or left + columns > size:
        raise PitpropError(
            f"a grid of {rows} x {columns} at {at} doesn't fit on a canvas of {size} x {size}",
            do="take a larger canvas",
        )
    canvas = np.full((size, size), fill, dtype=np.int64)
    canvas[top : top + rows, left : left + columns] = grid
    return canvas


def collate(
    tasks: Sequence[tuple[Task, Pair]], size: int, max_pairs: int, rng: np.random.Generator | None = None
) -> Batch:
    """A batch from tasks and the pair that is asked of each.

    Args:
        tasks: Tasks, each with the pair to predict; that pair itself is never among the shown ones.
        size: Side of the canvas.
        max_pairs: Shown pairs per task; further ones are left out, missing ones are marked.
        rng: Where given, every pair is shifted by a random number of cells within the canvas (translation).
    """

    def shift(*grids: Grid) -> tuple[int, int]:
        if rng is None:
            return 0, 0
        rows, columns = (size - max(grid.shape[axis] for grid in grids) for axis in (0, 1))
        return int(rng.integers(rows + 1)), int(rng.integers(columns + 1))

    inputs, targets, shown_inputs, shown_outputs, shown = [], [], [], [], []
    for task, asked in tasks:
        at = shift(*asked)
        inputs.append(place(asked.input, size, PAD, at))
        targets.append(place(asked.output, size, IGNORED, at))
        pairs = [pair for pair in task.train if pair is not asked][:max_pairs]
        places = [shift(*pair) for pair in pairs]
        empty = [np.full((size, size), PAD)] * (max_pairs - len(pairs))
        shown_inputs.append([place(p.input, size, PAD, at) for p, at in zip(pairs, places, strict=True)] + empty)
        shown_outputs.append([place(p.output, size, PAD, at) for p, at in zip(pairs, places, strict=True)] + empty)
        shown.append([True] * len(pairs) + [False] * len(empty))
    arrays = (inputs, targets, shown_inputs, shown_outputs, shown)
    return Batch(*(torch.from_numpy(np.array(array)) for array in arrays))
