"""Sign tests on paired losses: is the loss higher in most batches once something is taken away?

What matters raises the loss of most batches when it is shuffled or ablated. So the null hypothesis is "it matters": in
three of four batches, given the past, the gap is positive. Evidence against it is gathered by the same e-detector as
everywhere (`_online.gather`, margin 1/4), which needs no independence of the batches and may be looked at any time.
"""

import math
from typing import NamedTuple

from pitprop.rules._online import RUN_LENGTH, Evidence, gather

TRANSIENT = 100
"""First rows, in which nothing is held against a condition or a branch: networks learn the marginal first, and
zero-initialised paths wake up. A convention; contexts took 10 to 240 steps in the experiments of science.md."""
SHARE = 0.25
"""Share of batches whose loss may not rise without what matters. A convention: it separates 3 of 4 from a coin."""


class Unused(NamedTuple):
    """What the signs of the gaps say."""

    rows: int = 0
    """Rows with a defined gap."""
    first: int = -1
    """Step of the first of them."""
    without: Evidence = Evidence()
    """Evidence that taking it away does not raise the loss."""
    used: Evidence = Evidence()
    """Evidence that it does, in more than three of five batches."""
    was_used: int = 0
    """1 once it was."""


def judge(state: Unused, step: int, gap: float, transient: int) -> Unused:
    """`state` after one more batch; an undefined gap is no evidence."""
    if math.isnan(gap):
        return state
    used = gather(state.used, step, float(gap > 0), 0.6)
    without = state.without if state.rows < transient else gather(state.without, step, float(gap <= 0), SHARE)
    was_used = max(state.was_used, int(used.log_sum >= math.log(RUN_LENGTH)))
    return Unused(state.rows + 1, step if state.first < 0 else state.first, without, used, was_used)


def unused(state: Unused) -> bool:
    """Whether the batches say beyond chance that it does not matter."""
    return state.without.log_sum >= math.log(RUN_LENGTH)


def onset(state: Unused) -> int:
    """Step since which it has not mattered: the first row, where it never did."""
    return state.without.onset if state.was_used else state.first
