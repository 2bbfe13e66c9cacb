"""The oracle: which subsets of the changes collapse, asked run by run, cached, within a budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pitprop.trials.bisection.sequential import Outcome, SequentialTest

Subset = frozenset[str]
"""Names of the changes that are made; the empty one is the good configuration, the full one the bad."""

Runs = Callable[[Subset, Sequence[int]], Sequence[bool | None]]
"""Runs a subset at seeds, all at once where it can: whether each run collapsed, None for one that failed."""

FIRST = 8
"""Seeds at which both end points run before anything else."""

FAILED = 3
"""Failed runs after which a subset is unresolved: changes that cannot be made together are no evidence."""


class Spent(Exception):
    """The budget does not hold the next runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One test of one subset."""

    changes: tuple[str, ...]
    """The changes that were made."""
    collapsed: int
    """Runs that collapsed."""
    runs: int
    """Runs that ended, over different seeds."""
    outcome: Outcome
    """What the sequential test says."""


class Oracle:
    """Tests subsets by the sequential test.

    All subsets run at the same seeds, those at which bad collapsed and good did not: where collapse depends on the
    seed, another seed says nothing about the changes, and where it does not, the choice does no harm.

    Args:
        runs: What executes.
        everything: All changes, in the order in which they are written down.
        budget: Runs that may be executed in all; a run is asked for once.
        test: The sequential test.
    """

    def __init__(self, runs: Runs, everything: Sequence[str], *, budget: int, test: SequentialTest | None = None):
        self.everything = tuple(everything)
        self.budget = budget
        self.used = 0
        self.steps: list[Step] = []
        self.outcomes: dict[Subset, Outcome] = {}
        self._runs, self._test = runs, test or SequentialTest()
        self._known: dict[tuple[Subset, int], bool | None] = {}
        self._seeds: list[int] = []
        self._screened = 0

    def end_points(self) -> tuple[Outcome, Outcome]:
        """Outcomes of the good and the bad end, on `FIRST` seeds each and more where that does not decide."""
        good, bad = frozenset(), frozenset(self.everything)
        for end in (good, bad):
            count = FIRST
            while end not in self.outcomes:
                self._judge(end, range(count))
                count += 1
        self._find_seeds(FIRST)
        return self.outcomes[good], self.outcomes[bad]

    def test(self, subset: Subset) -> Outcome:
        """The outcome of `subset`.

        Raises:
            Spent: The budget ended before there was one.
        """
        taken = 0
        while subset not in self.outcomes:
            ended = [r for seed in self._seeds[:taken] if (r := self._known[subset, seed]) is not None]
            taken += self._test.fewest(sum(ended), len(ended))
            while len(self._seeds) < taken:
                self._find_seeds(taken - len(self._seeds))
            self._judge(subset, self._seeds[:taken])
        return self.outcomes[subset]

    def _judge(self, subset: Subset, seeds: Sequence[int]) -> None:
        """Run `subset` at `seeds`, and keep the outcome if there is one."""
        found = self._results(subset, seeds)
        ended = [result for result in found if result is not None]
        failed = len(found) - len(ended)
        outcome = self._test.decide(sum(ended), len(ended))
        if outcome is None and failed >= FAILED:
            outcome = "unresolved"
        if outcome is not None:
            self.outcomes[subset] = outcome
            names = tuple(name for name in self.everything if name in subset)
            self.steps.append(Step(changes=names, collapsed=sum(ended), runs=len(ended), outcome=outcome))

    def _find_seeds(self, count: int) -> None:
        """Try the end points at `count` further seeds, and take those at which bad collapses and good does not."""
        seeds = range(self._screened, self._screened + count)
        bad = self._results(frozenset(self.everything), seeds)
        seeds = [seed for seed, collapsed in zip(seeds, bad, strict=True) if collapsed]
        good = self._results(frozenset(), seeds)
        self._seeds += [seed for seed, collapsed in zip(seeds, good, strict=True) if collapsed is False]
        self._screened += count

    def _results(self, subset: Subset, seeds: Sequence[int]) -> list[bool | None]:
        new = [seed for seed in seeds if (subset, seed) not in self._known]
        if self.used + len(new) > self.budget:
            raise Spent
        if new:
            self.used += len(new)
            self._known.update(zip(((subset, seed) for seed in new), self._runs(subset, new), strict=True))
        return [self._known[subset, seed] for seed in seeds]
