"""A state that healthy networks begin in too: lost to it, or never out of it?

Networks learn the marginal before anything else. At first the outputs hardly differ, the loss is the prior's, one class
is the answer to all: by its level the start of a good run is a collapse. Two things tell them apart. A network that was
better has lost what it had, and a short persistence says so. One that never was may still be on its way; then the state
must last longer than such starts do, and longer than it took to arrive, for which the run's own progress is the clock.
"""

import math
import statistics
from typing import NamedTuple

from pitprop.rules._online import NAN, WARM_UP, Persistence, lasting, persist

LONGEST = 240
"""First rows in which a state that was never left is no failure. The longest of the healthy starts that were measured:
in nine arms of an experiment (science.md, b) the context was learned by step 10 to 240, in another (g) by 60 to 100."""
PROGRESS = 0.05
"""Share by which a loss falls under its lowest to be on its way still. A convention."""


class Plateau(NamedTuple):
    """What a run has made of the state."""

    inside: Persistence = Persistence()
    better: Persistence = Persistence()
    was_better: int = 0
    """1 once it was lastingly better, beyond the first transient."""
    arrived: int = 0
    """Rows until it last made progress."""


def dwell(plateau: Plateau, step: int, inside: bool, better: bool, progress: int = 0) -> Plateau:
    """`plateau` after one more row. Neither inside nor better: on its way."""
    within, out = persist(plateau.inside, step, inside), persist(plateau.better, step, better)
    was_better = max(plateau.was_better, int(lasting(out)))
    return Plateau(within, out, was_better, within.rows if progress else plateau.arrived)


def stuck(plateau: Plateau, patience: int) -> bool:
    """Whether the state is a failure: lost to it for `patience` rows, or never better for longer than a start takes."""
    held = plateau.inside
    if plateau.was_better:
        return held.count >= patience
    return held.rows >= LONGEST and held.count >= max(patience, 2 * plateau.arrived)


class Level(NamedTuple):
    """Median of the last losses, and the lowest that it was."""

    recent: tuple[float, ...] = (NAN,) * WARM_UP
    median: float = NAN
    """NaN until there are `WARM_UP` losses."""
    lowest: float = math.inf
    """Lowest median that was progress."""
    progress: int = 0
    """1 if the last row brought some."""


def descend(level: Level, loss: float) -> Level:
    """`level` after one more loss that is a number."""
    recent = (*level.recent[1:], loss)
    if any(math.isnan(v) for v in recent):
        return level._replace(recent=recent)
    median = statistics.median(recent)
    progress = median < (1 - PROGRESS) * level.lowest
    return Level(recent, median, median if progress else level.lowest, int(progress))
