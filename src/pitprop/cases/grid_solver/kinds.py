"""Twenty-eight kinds of ARC-like tasks, so that nothing need be downloaded.

Each kind draws the rule of one task (its colours and directions) and returns a function that draws pairs under it.
They are stand-ins for ARC's own, from its vocabulary (objects, symmetry, gravity, rays, enclosure, counting, logic),
and easier: a solver that is good at these has not solved ARC.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from pitprop._errors import PitpropError
from pitprop.cases.grid_solver import cell_kinds, object_kinds
from pitprop.cases.grid_solver.drawing import LARGEST, Draw
from pitprop.cases.grid_solver.tasks import Pair, Task

KINDS: tuple[tuple[str, Callable[[Generator], Draw]], ...] = (
    ("recolour", cell_kinds.recolour),
    ("swap-colours", cell_kinds.swap_colours),
    ("mirror-left-right", cell_kinds.mirror_left_right),
    ("mirror-up-down", cell_kinds.mirror_up_down),
    ("half-turn", cell_kinds.half_turn),
    ("transpose", cell_kinds.transpose),
    ("gravity", cell_kinds.gravity),
    ("rays", cell_kinds.rays),
    ("connect", cell_kinds.connect),
    ("crosses", cell_kinds.crosses),
    ("diagonals", cell_kinds.diagonals),
    ("outline", object_kinds.outline),
    ("fill-enclosed", object_kinds.fill_enclosed),
    ("hollow-out", object_kinds.hollow_out),
    ("keep-largest", object_kinds.keep_largest),
    ("mark-smallest", object_kinds.mark_smallest),
    ("crop", object_kinds.crop),
    ("enlarge", cell_kinds.enlarge),
    ("tile", cell_kinds.tile),
    ("complete-symmetry", cell_kinds.complete_symmetry),
    ("remove-noise", object_kinds.remove_noise),
    ("shift", cell_kinds.shift),
    ("count", cell_kinds.count),
    ("both", cell_kinds.both),
    ("either", cell_kinds.either),
    ("one-of-two", cell_kinds.one_of_two),
    ("majority", cell_kinds.majority),
    ("sorted-bars", cell_kinds.sorted_bars),
)


LEAST = 6
LARGER = ("enlarge", "tile", "complete-symmetry")
"""Kinds whose grids are always of 10 cells a side."""


def generate(num: int, *, seed: int, num_train: int = 3, num_test: int = 1, largest: int = LARGEST) -> list[Task]:
    """Tasks with the kinds in turn; number `i` is a function of `seed` and `i` alone.

    Args:
        num: Number of tasks.
        seed: Of everything drawn.
        num_train: Shown pairs per task.
        num_test: Asked pairs per task.
        largest: Most rows and columns, 6 to 10; under 10 without the kinds of `LARGER`.

    Returns:
        Tasks named `KIND-i`.
    """
    if not LEAST <= largest <= LARGEST:
        raise PitpropError(f"largest is {largest}, and must be {LEAST} to {LARGEST}", do="the kinds don't fit on less")
    tasks, kinds = [], [kind for kind in KINDS if largest == LARGEST or kind[0] not in LARGER]
    for i in range(num):
        name, kind = kinds[i % len(kinds)]
        rng = np.random.default_rng((seed, i))
        draw = kind(rng)
        pairs = [_different(draw, rng, largest) for _ in range(num_train + num_test)]
        tasks.append(Task(f"{name}-{i}", tuple(pairs[:num_train]), tuple(pairs[num_train:])))
    return tasks


def _different(draw: Draw, rng: Generator, largest: int) -> Pair:
    """A pair that fits and shows something: a rule that leaves its grid as it is can't be seen."""
    while True:
        pair = draw(rng)
        fits = max(side for grid in pair for side in grid.shape) <= largest
        if fits and (pair.input.shape != pair.output.shape or (pair.input != pair.output).any()):
            return pair
