"""Kinds of tasks about cells and whole grids: colours, symmetries, lines, counting, logic."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from pitprop.cases.grid_solver.drawing import Draw, colours, dots, empty
from pitprop.cases.grid_solver.tasks import Grid, Pair


def recolour(rng: Generator) -> Draw:
    old, new, *others = colours(rng, 4)

    def draw(rng: Generator) -> Pair:
        grid = dots(rng, [old, *others], 0.4)
        return Pair(grid, np.where(grid == old, new, grid))

    return draw


def swap_colours(rng: Generator) -> Draw:
    first, second, other = colours(rng, 3)

    def draw(rng: Generator) -> Pair:
        grid = dots(rng, [first, second, other], 0.4)
        return Pair(grid, np.where(grid == first, second, np.where(grid == second, first, grid)))

    return draw


def _whole(change: Callable[[Grid], Grid]) -> Callable[[Generator], Draw]:
    """A kind whose rule is a function of the whole grid."""

    def kind(rng: Generator) -> Draw:
        choice = colours(rng, 3)

        def draw(rng: Generator) -> Pair:
            grid = dots(rng, choice, 0.35)
            return Pair(grid, np.ascontiguousarray(change(grid)))

        return draw

    return kind


mirror_left_right = _whole(np.fliplr)
mirror_up_down = _whole(np.flipud)
half_turn = _whole(lambda grid: np.rot90(grid, 2))
transpose = _whole(np.transpose)


def gravity(rng: Generator) -> Draw:
    choice, turns = colours(rng, 3), int(rng.integers(4))

    def fall(grid: Grid) -> Grid:
        fallen = np.zeros_like(grid)
        for column in range(grid.shape[1]):
            cells = grid[grid[:, column] > 0, column]
            fallen[len(grid) - len(cells) :, column] = cells
        return fallen

    def draw(rng: Generator) -> Pair:
        grid = dots(rng, choice, 0.25)
        return Pair(grid, np.ascontiguousarray(np.rot90(fall(np.rot90(grid, turns)), -turns)))

    return draw


def rays(rng: Generator) -> Draw:
    choice, down = colours(rng, 2), bool(rng.integers(2))

    def draw(rng: Generator) -> Pair:
        grid = empty(rng)
        grid = grid.T if down else grid
        out = grid.copy()
        for row in rng.choice(len(grid), min(3, len(grid)), replace=False):
            column = int(rng.integers(grid.shape[1]))
            grid[row, column] = rng.choice(choice)
            out[row, column:] = grid[row, column]
        return Pair(grid.T.copy(), out.T.copy()) if down else Pair(grid, out)

    return draw


def connect(rng: Generator) -> Draw:
    ends, line = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        grid = empty(rng)
        out = grid.copy()
        for row in rng.choice(len(grid), min(3, len(grid)), replace=False):
            left, right = sorted(int(c) for c in rng.choice(grid.shape[1], 2, replace=False))
            grid[row, [left, right]] = out[row, [left, right]] = ends
            out[row, left + 1 : right] = line
        return Pair(grid, out)

    return draw


def crosses(rng: Generator) -> Draw:
    centre, arms = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        grid = empty(rng)
        row, column = (int(rng.integers(side)) for side in grid.shape)
        grid[row, column] = centre
        out = grid.copy()
        out[row], out[:, column] = arms, arms
        out[row, column] = centre
        return Pair(grid, out)

    return draw


def diagonals(rng: Generator) -> Draw:
    (colour,) = colours(rng, 1)

    def draw(rng: Generator) -> Pair:
        grid = empty(rng)
        row, column = (int(rng.integers(side)) for side in grid.shape)
        grid[row, column] = colour
        rows, columns = np.indices(grid.shape)
        return Pair(grid, np.where(abs(rows - row) == abs(columns - column), colour, 0))

    return draw


def enlarge(rng: Generator) -> Draw:
    choice = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        grid = dots(rng, choice, 0.5, largest=5)
        return Pair(grid, np.kron(grid, np.ones((2, 2), dtype=np.int64)))

    return draw


def tile(rng: Generator) -> Draw:
    choice, flip = colours(rng, 2), bool(rng.integers(2))

    def draw(rng: Generator) -> Pair:
        grid = dots(rng, choice, 0.5, largest=5)
        return Pair(grid, np.hstack([grid, np.fliplr(grid) if flip else grid]))

    return draw


def complete_symmetry(rng: Generator) -> Draw:
    hole, *choice = colours(rng, 3)

    def draw(rng: Generator) -> Pair:
        half = dots(rng, choice, 0.5, largest=5)
        out = np.hstack([half, np.fliplr(half)])
        grid = out.copy()
        top, left = int(rng.integers(len(grid) - 1)), int(rng.integers(half.shape[1] - 1))
        grid[top : top + 2, left : left + 2] = hole
        return Pair(grid, out)

    return draw


def shift(rng: Generator) -> Draw:
    choice, axis, by = colours(rng, 2), int(rng.integers(2)), int(rng.choice([-2, -1, 1, 2]))

    def draw(rng: Generator) -> Pair:
        grid = dots(rng, choice, 0.3)
        return Pair(grid, np.roll(grid, by, axis))

    return draw


def count(rng: Generator) -> Draw:
    counted, bar, other = colours(rng, 3)

    def draw(rng: Generator) -> Pair:
        grid = empty(rng)
        num = int(rng.integers(1, 6))
        grid.flat[rng.choice(grid.size, num + 2, replace=False)] = [counted] * num + [other] * 2
        return Pair(grid, np.array([[bar] * num + [0] * (5 - num)]))

    return draw


def _logic(combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Generator], Draw]:
    """Two halves with a line between them, combined cell by cell."""

    def kind(rng: Generator) -> Draw:
        first, second, line, result = colours(rng, 4)

        def draw(rng: Generator) -> Pair:
            shape = (int(rng.integers(3, 8)), int(rng.integers(2, 5)))
            a, b = rng.random((2, *shape)) < 0.5
            middle = np.full((shape[0], 1), line)
            return Pair(np.hstack([a * first, middle, b * second]), combine(a, b) * result)

        return draw

    return kind


both = _logic(np.logical_and)
either = _logic(np.logical_or)
one_of_two = _logic(np.logical_xor)


def majority(rng: Generator) -> Draw:
    choice = colours(rng, 3)

    def draw(rng: Generator) -> Pair:
        most = int(rng.choice(choice))
        grid = rng.choice(choice, rng.integers(3, 7, 2))
        grid[rng.random(grid.shape) < 0.6] = most
        counts = [int((grid == c).sum()) for c in choice]
        if sorted(counts)[-1] == sorted(counts)[-2]:
            return draw(rng)
        return Pair(grid, np.full((3, 3), choice[int(np.argmax(counts))]))

    return draw


def sorted_bars(rng: Generator) -> Draw:
    choice = colours(rng, 4)

    def draw(rng: Generator) -> Pair:
        grid = empty(rng)
        heights = rng.integers(1, len(grid) + 1, min(4, grid.shape[1]))
        out = grid.copy()
        for target, bars in ((grid, heights), (out, np.sort(heights))):
            for column, height in enumerate(bars):
                target[len(grid) - height :, column] = choice[0]
        return Pair(grid, out)

    return draw
