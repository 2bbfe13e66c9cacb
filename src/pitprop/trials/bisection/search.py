"""Delta debugging over a noisy oracle: minimal sets of changes that bring the collapse, and minimal sets that cure it.

Halving with the interference step of QuickXplain, which finds interactions in a number of tests that grows with the
logarithm of the number of changes, and a last pass that takes out one change at a time: whatever went wrong before
(noise, or changes that undo each other), a set that leaves it is one that was seen to do it, and minimal.

Sources: A. Zeller, Yesterday, my program worked. Today, it does not. Why?, 1999; U. Junker, QuickXplain, 2004.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pitprop.trials.bisection.oracle import Oracle, Spent, Subset
from pitprop.trials.bisection.sequential import Outcome

Ends = Literal[
    "apart", "bad does not collapse", "good collapses", "unresolved", "no difference", "bad is better", "inconclusive"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprits:
    """A set of changes that was tested and does it: brings the collapse to good, or, reversed, cures bad."""

    changes: tuple[str, ...]
    """The changes, in the order in which they were given."""
    minimal: bool
    """Whether every set with one change fewer was tested and does not; False only where the budget ended first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the search established."""

    ends: Ends
    """Whether the end points can be told apart; without that nothing was searched."""
    bringing: tuple[Culprits, ...] = ()
    """Sets that bring the collapse, each alone; they share no change."""
    curing: tuple[Culprits, ...] = ()
    """Sets whose reversal cures, each alone; they share no change."""
    exonerated: tuple[str, ...] = ()
    """In no set; bad with the bringing sets reversed, and these kept, was tested healthy."""
    open: tuple[str, ...] = ()
    """What the budget left unanswered, as sentences."""


def search(oracle: Oracle) -> Found:
    """Everything that `oracle` lets be found within its budget."""
    try:
        ends = ends_of(*oracle.end_points())
    except Spent:
        return Found(ends="unresolved", open=("The budget ended at the end points.",))
    if ends != "apart":
        return Found(ends=ends)

    everything = frozenset(oracle.everything)
    bringing, curing = _Side(oracle, cures=False), _Side(oracle, cures=True)
    left = ["whether smaller sets bring it", "which reversals cure it", "whether others do so as well"]
    with contextlib.suppress(Spent):
        bringing.find(everything, hint=everything)
        left.pop(0)
        guilty = frozenset().union(*bringing.sets)
        # With every bringing set reversed, bad is healthy: a curing set lies among them.
        curing.find(everything, hint=guilty)
        left.clear()
    accused = frozenset().union(*bringing.all, *curing.all)
    innocent = everything - accused if curing.holds_already(frozenset().union(*bringing.sets)) else frozenset()
    return Found(
        ends=ends,
        bringing=bringing.culprits(),
        curing=curing.culprits(),
        exonerated=tuple(name for name in oracle.everything if name in innocent),
        open=tuple(f"The budget ended before it was known {question}." for question in left),
    )


def ends_of(good: Outcome, bad: Outcome) -> Ends:
    """What the outcomes of the end points allow."""
    if "unresolved" in (good, bad):
        return "unresolved"
    if bad == "healthy":
        return "bad does not collapse"
    return "good collapses" if good == "collapses" else "apart"


class _Side:
    """One of the two questions, with the sets that answer it: does this set bring, or does its reversal cure?"""

    def __init__(self, oracle: Oracle, *, cures: bool):
        self._oracle, self._cures = oracle, cures
        self._everything = frozenset(oracle.everything)
        self.sets: list[Subset] = []
        """Minimal ones."""
        self._within: Subset | None = None
        """Where a search is under way."""

    def find(self, within: Subset, hint: Subset) -> None:
        """Find minimal sets until the rest of `within` does not do it; `hint` is looked at before all of the rest."""
        rest = within
        while rest and self.holds(rest):
            near = hint & rest
            self._within = near if near and self.holds(near) else rest
            self.sets.append(self._minimal(self._within))
            self._within = None
            rest -= self.sets[-1]

    def holds(self, subset: Subset) -> bool:
        """Whether `subset` does it."""
        if self._cures:
            return self._oracle.test(self._everything - subset) == "healthy"
        return self._oracle.test(subset) == "collapses"

    def holds_already(self, subset: Subset) -> bool:
        """Whether `subset` is known to do it, without a run."""
        key, outcome = (self._everything - subset, "healthy") if self._cures else (subset, "collapses")
        return self._oracle.outcomes.get(key) == outcome

    @property
    def all(self) -> list[Subset]:
        """The minimal sets, and the smallest established one of a search that the budget ended (but not everything)."""
        last = self._smallest(self._within) if self._within else self._everything
        return self.sets + ([last] if last != self._everything else [])

    def culprits(self) -> tuple[Culprits, ...]:
        """`all`, for the answer."""
        return tuple(
            Culprits(changes=tuple(n for n in self._oracle.everything if n in found), minimal=found in self.sets)
            for found in self.all
        )

    def _minimal(self, within: Subset) -> Subset:
        order = [name for name in self._oracle.everything if name in within]
        found = frozenset(self._divide(frozenset(), False, order))
        smallest = found if found and self.holds(found) else self._smallest(within)
        return self._pruned(smallest)

    def _divide(self, background: Subset, added: bool, order: Sequence[str]) -> set[str]:
        """Members of `order` that are needed on top of `background`, which with all of them does it."""
        if added and self.holds(background):
            return set()
        if len(order) == 1:
            return set(order)
        left, right = order[: len(order) // 2], order[len(order) // 2 :]
        needed_right = self._divide(background | set(left), True, right)
        needed_left = self._divide(background | needed_right, bool(needed_right), left)
        return needed_left | needed_right

    def _pruned(self, subset: Subset) -> Subset:
        """`subset` less every single change that it can do without."""
        for smaller in self._one_fewer(subset):
            if self.holds(smaller):
                return self._pruned(smaller)
        return subset

    def _one_fewer(self, subset: Subset) -> Iterator[Subset]:
        if len(subset) > 1:  # the empty set is an end point
            yield from (subset - {name} for name in self._oracle.everything if name in subset)

    def _smallest(self, within: Subset) -> Subset:
        """The smallest subset of `within` that is known to do it; `within` itself at worst."""
        known = [self._everything - s if self._cures else s for s in self._oracle.outcomes]
        return min((s for s in known if s and s <= within and self.holds_already(s)), key=len, default=within)
