"""Halving a line of revisions over the noisy oracle, around revisions that cannot be tested, as `git bisect` does.

It assumes what halving always does: that the collapse, once it has come, stays. Where it comes and goes, the answer is
still a true step (a revision that was tested healthy, and the next that was tested and collapses), not the only one.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from pitprop.trials.bisection.oracle import Oracle, Spent
from pitprop.trials.bisection.search import Ends, ends_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """Between which revisions the collapse came; a revision is the number of commits after good."""

    ends: Ends
    """Whether the end points can be told apart; without that nothing was searched."""
    healthy: int
    """The last revision that is known to be healthy."""
    collapsing: int
    """The first one after it that is known to collapse."""
    spent: bool
    """Whether the budget ended while there were revisions left to test in between."""


def halve(oracle: Oracle, runs: Callable[[int], bool]) -> Bracket:
    """Narrow down where the collapse came.

    Args:
        oracle: Tests a revision as the set of the commits up to it; its `everything` is in their order.
        runs: Whether a revision can be built at all; asked before any run of it.
    """
    low, high, spent = 0, len(oracle.everything), False
    ends: Ends = "unresolved"
    skipped: set[int] = set()
    try:
        ends = ends_of(*oracle.end_points())
        while ends == "apart" and (middle := _next(low, high, skipped)) is not None:
            outcome = oracle.test(frozenset(oracle.everything[:middle])) if runs(middle) else "unresolved"
            if outcome == "healthy":
                low = middle
            elif outcome == "collapses":
                high = middle
            else:
                skipped.add(middle)
    except Spent:
        spent = True
    return Bracket(ends=ends, healthy=low, collapsing=high, spent=spent)


def _next(low: int, high: int, skipped: set[int]) -> int | None:
    """The middle of the widest gap between `low`, `high` and what was skipped; None where all are adjacent."""
    marks = [low, *sorted(s for s in skipped if low < s < high), high]
    gap = max(itertools.pairwise(marks), key=lambda gap: gap[1] - gap[0])
    return sum(gap) // 2 if gap[1] - gap[0] > 1 else None
