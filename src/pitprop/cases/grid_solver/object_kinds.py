"""Kinds of tasks about objects: connected parts of a grid, their outlines, insides and sizes."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from pitprop.cases.grid_solver.drawing import Draw, boxes, colours, objects
from pitprop.cases.grid_solver.tasks import Pair


def outline(rng: Generator) -> Draw:
    inner, outer = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        grid = boxes(rng, [inner], 2)
        return Pair(grid, np.where((grid == 0) & ndimage.binary_dilation(grid > 0, np.ones((3, 3))), outer, grid))

    return draw


def fill_enclosed(rng: Generator) -> Draw:
    wall, inside = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        grid = boxes(rng, [wall], 2, hollow=True)
        return Pair(grid, np.where((grid == 0) & ndimage.binary_fill_holes(grid > 0), inside, grid))

    return draw


def hollow_out(rng: Generator) -> Draw:
    (colour,) = colours(rng, 1)

    def draw(rng: Generator) -> Pair:
        grid = boxes(rng, [colour], 2)
        return Pair(grid, np.where(ndimage.binary_erosion(grid > 0, np.ones((3, 3))), 0, grid))

    return draw


def keep_largest(rng: Generator) -> Draw:
    choice = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        while True:  # until one is larger than the rest
            grid = boxes(rng, choice, 3)
            found = objects(grid)
            if len(found) == 1 or found[0].sum() > found[1].sum():
                return Pair(grid, np.where(found[0], grid, 0))

    return draw


def mark_smallest(rng: Generator) -> Draw:
    plain, marked = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        while True:
            grid = boxes(rng, [plain], 3)
            found = objects(grid)
            if len(found) > 1 and found[-1].sum() < found[-2].sum():
                return Pair(grid, np.where(found[-1], marked, grid))

    return draw


def crop(rng: Generator) -> Draw:
    frame, *inside = colours(rng, 3)

    def draw(rng: Generator) -> Pair:
        grid = boxes(rng, [frame], 1)
        [(rows, columns)] = ndimage.find_objects((grid > 0).astype(int))
        grid[rows, columns] = rng.choice([frame, *inside], grid[rows, columns].shape)
        return Pair(grid, grid[rows, columns].copy())

    return draw


def remove_noise(rng: Generator) -> Draw:
    body, noise = colours(rng, 2)

    def draw(rng: Generator) -> Pair:
        out = boxes(rng, [body], 2)
        return Pair(np.where((out == 0) & (rng.random(out.shape) < 0.15), noise, out), out)

    return draw
