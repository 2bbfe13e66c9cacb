"""What the kinds of generated tasks draw with: colours, dots, boxes, and the objects of a grid."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from pitprop.cases.grid_solver.tasks import NUM_COLOURS, Grid, Pair

Draw = Callable[[Generator], Pair]
"""Draws one pair of a task."""
SMALLEST, LARGEST = 5, 10


def colours(rng: Generator, num: int) -> list[int]:
    """Different ones, none of them background."""
    return [int(c) for c in 1 + rng.choice(NUM_COLOURS - 1, num, replace=False)]


def empty(rng: Generator, largest: int = LARGEST) -> Grid:
    """Background of a random size."""
    return np.zeros(rng.integers(min(SMALLEST, largest), largest + 1, 2), dtype=np.int64)


def dots(rng: Generator, choice: list[int], share: float = 0.2, largest: int = LARGEST) -> Grid:
    """Single cells in random colours; at least one."""
    grid = empty(rng, largest)
    grid[rng.random(grid.shape) < share] = -1
    grid.flat[rng.integers(grid.size)] = -1
    return np.where(grid < 0, rng.choice(choice, grid.shape), 0)


def boxes(rng: Generator, choice: list[int], num: int, *, hollow: bool = False) -> Grid:
    """Rectangles that don't touch, of 2 to 4 cells a side (3 to 5 if hollow); fewer where there is no room."""
    grid = empty(rng)
    low = 3 if hollow else 2
    for _ in range(num):
        for _ in range(20):
            rows, columns = (int(side) for side in rng.integers(low, low + 3, 2))
            if rows > grid.shape[0] or columns > grid.shape[1]:
                continue
            top, left = int(rng.integers(grid.shape[0] - rows + 1)), int(rng.integers(grid.shape[1] - columns + 1))
            around = grid[max(top - 1, 0) : top + rows + 1, max(left - 1, 0) : left + columns + 1]
            if not around.any():
                grid[top : top + rows, left : left + columns] = rng.choice(choice)
                if hollow:
                    grid[top + 1 : top + rows - 1, left + 1 : left + columns - 1] = 0
                break
    return grid


def objects(grid: Grid) -> list[np.ndarray]:
    """Masks of the connected parts that aren't background, larger ones first, and then from the top left."""
    labels, num = ndimage.label(grid)  # type: ignore[misc]
    return sorted((labels == i + 1 for i in range(num)), key=lambda mask: -int(mask.sum()))
