"""Wald's sequential probability ratio test: does a configuration collapse, or not, when single runs are noisy?"""

import math
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["collapses", "healthy", "unresolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialTest:
    """A configuration that collapses at `collapsing` of its seeds or more, against one at `healthy` of them or fewer.

    Source: A. Wald, Sequential Tests of Statistical Hypotheses, 1945. The bounds are his; the test ends at `most` runs,
    unresolved rather than forced. At rates between the two it promises nothing but an end.
    """

    healthy: float = 0.1
    """Share of seeds at which a healthy configuration may look collapsed."""
    collapsing: float = 0.5
    """Share of seeds from which a configuration counts as one that collapses."""
    error: float = 0.01
    """Probability of the wrong answer, at most, at either of the two rates."""
    most: int = 40
    """Runs after which the test gives up."""

    def decide(self, collapsed: int, runs: int) -> Outcome | None:
        """The outcome after `collapsed` of `runs`; None while more runs are needed."""
        ratio = collapsed * self._up + (runs - collapsed) * self._down
        if ratio >= self._bound:
            return "collapses"
        if ratio <= -self._bound:
            return "healthy"
        return "unresolved" if runs >= self.most else None

    def fewest(self, collapsed: int, runs: int) -> int:
        """Fewest further runs after which there can be an outcome: so many may run at once, and none is wasted."""
        for count in range(1, self.most - runs):
            if self.decide(collapsed + count, runs + count) or self.decide(collapsed, runs + count):
                return count
        return self.most - runs

    @property
    def _bound(self) -> float:
        return math.log((1 - self.error) / self.error)

    @property
    def _up(self) -> float:
        return math.log(self.collapsing / self.healthy)

    @property
    def _down(self) -> float:
        return math.log((1 - self.collapsing) / (1 - self.healthy))


def share_interval(collapsed: int, runs: int) -> tuple[float, float]:
    """95 % interval of the share of seeds that collapse, as if the number of runs had been fixed; NaN without runs.

    Source: C. Clopper and E. Pearson, The use of confidence or fiducial limits, 1934.
    """
    if not runs:
        return math.nan, math.nan
    from scipy.stats import binomtest  # 1.7 s of import, paid when first asked

    low, high = binomtest(collapsed, runs).proportion_ci(method="exact")
    return float(low), float(high)
