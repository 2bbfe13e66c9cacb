"""The end points: are good and bad apart, and from which value of the metric does a run count as collapsed?

Pure. The cut is fixed here, from the end points alone, before any subset runs.
"""

import math
from dataclasses import dataclass
from statistics import median

from pitprop.records import Comparison

LOOKS = (8, 16)
"""Seeds after which the end points are compared; the second look only if the first was inconclusive."""

CONFIDENCE = 1 - 0.05 / len(LOOKS)
"""Of each look, so that both together err at most 5 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """From where on a run counts as collapsed."""

    value: float
    """Half of the way from the median of good to the worst quartile of bad; NaN where only a metric that is not finite
    counts, because that is how bad collapses."""
    higher_is_better: bool
    """Direction in which the metric improves."""

    def collapsed(self, metric: float) -> bool:
        """Whether a run with this metric is one; a metric that is not finite always is."""
        if not math.isfinite(metric):
            return True
        return metric < self.value if self.higher_is_better else metric > self.value


def cut_between(ends: Comparison) -> Cut | None:
    """The cut; None unless bad is worse by an interval beyond the margin, or diverges at a quarter of its seeds."""
    higher = ends.higher_is_better
    if not (ends.high < -ends.margin if higher else ends.low > ends.margin):
        lost = [value for value in ends.treated if not math.isfinite(value)]
        diverges = lost and 4 * len(lost) >= len(ends.treated) and all(map(math.isfinite, ends.control))
        return Cut(value=math.nan, higher_is_better=higher) if diverges else None
    worst = sorted(filter(math.isfinite, ends.treated), reverse=not higher)
    # Not the median: a bad end that collapses at 4 of 10 seeds has two humps. Not the mean of the worst quarter either:
    # one run far out would move the cut past the others.
    low = worst[math.ceil(len(worst) / 4) - 1]
    return Cut(value=(median(filter(math.isfinite, ends.control)) + low) / 2, higher_is_better=higher)
