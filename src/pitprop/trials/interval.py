"""The interval of a mean paired difference: Student's t, with the side stretched on which skewness asks for more.

Student's t covers 95 % of the time under symmetric differences, heavy tails included, and 81 to 92 % under skewed ones.
Hall's transformation of the t statistic corrects for skewness, and errs where tails are heavy. So each side of
Student's interval is stretched by the factor by which Hall's correction lengthens it at 95 %, and never shortened: it
errs less often than Student's in every shape. Design note 002 has the measurements.

A metric that is rounded, or counts, gives equal differences by chance, whose spread of 0 says nothing of that chance.
But the chance itself is bounded: were both runs of a seed draws of one distribution, one difference k other than 0 has
at most chance 1/4. (The sum of p(j) p(j + k) over j runs along paths j, j + k, j + 2k, ...; take every other value of
each for the set A, the rest for B: it is at most P(A) P(B).) So n differences are equal, and not 0, with chance at most
4^(1 - n): the sum over k of the product over the seeds is at most (1/4)^(n - 1) times the sum over k for one seed.
Where that is more than the interval may err there is no interval. Differences that are all 0 are as common as a change
that acts at some seeds only makes them: one that moves the metric at half of the seeds or more leaves n of them alone
with chance 2^-n at most. That is the bound for them.

Source: P. Hall, On the removal of skewness by transformation, J. R. Statist. Soc. B 54 (1992), 221-228; the skewness
in it is Fisher and Pearson's G1, corrected for its bias.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

FIRST_SKEW = 4
"""Differences from which on their skewness is looked at; three show too little of it."""

TIE = 1e-3
"""Part of the largest within which differences are equal: float32 metrics are no more even than that."""

MOST_SEEDS = 1000
"""Seeds up to which it is said how many may settle a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Mean paired difference with its interval."""

    mean: float
    low: float
    high: float


def interval(differences: Float[ndarray, " seed"], confidence: float = 0.95) -> Effect:
    """Mean of `differences` with its interval.

    NaN under two differences. The ends alone are NaN where the differences are equal, and too few for `confidence`.
    """
    if len(differences) < 2:
        return Effect(mean=math.nan, low=math.nan, high=math.nan)
    low, high = bounds(differences, confidence)
    return Effect(mean=float(differences.mean()), low=float(low), high=float(high))


def bounds(
    differences: Float[ndarray, "*comparison seed"], confidence: float = 0.95
) -> tuple[Float[ndarray, "*comparison"], Float[ndarray, "*comparison"]]:
    """Lower and upper end of the interval of each mean over the last axis, which has at least two differences.

    NaN where the differences are equal, and so few that chance may have made them so.

    Args:
        differences: Paired differences, in the metric's unit.
        confidence: Nominal coverage, between 0 and 1.
    """
    count = differences.shape[-1]
    undefined = alike(differences) & (_tied_by_chance(differences, count) > 1 - confidence)
    low, high = _ends(*_moments(differences), np.array(float(count)), confidence)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def alike(differences: Float[ndarray, "*comparison seed"]) -> Bool[ndarray, "*comparison"]:
    """Whether the differences are equal, but for the last digits of the metric."""
    return np.ptp(differences, -1) <= TIE * np.abs(differences).max(-1)


def seeds_needed(differences: Float[ndarray, " seed"], *, margin: float, confidence: float = 0.95) -> int | None:
    """Seeds in all that may settle an inconclusive comparison, were they like these; None beyond 1000.

    Settled means that the interval would exclude 0, or lie inside the margin, whichever comes first, with mean, spread
    and skewness as seen.
    """
    if len(differences) < 2:
        return None
    counts = np.arange(2.0, MOST_SEEDS + 1)
    if alike(differences):
        counts = counts[_tied_by_chance(differences, counts) <= 1 - confidence]
    low, high = _ends(*_moments(differences), counts, confidence)
    settled = counts[(low > 0) | (high < 0) | ((-margin <= low) & (high <= margin))]
    return int(settled[0]) if len(settled) else None


def _tied_by_chance(differences: ndarray, count: ndarray | int) -> ndarray:
    """The greatest chance of `count` differences that are equal, as `differences` are.

    Not 0, of two runs that are alike; 0, of a change that moves the metric at half of the seeds or more.
    """
    count = np.asarray(count, dtype=np.float64)
    return np.where(differences.any(-1), 4.0 ** (1 - count), 2.0**-count)


def _moments(differences: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Mean, standard deviation, and the skewness G1 (0 where there are too few differences, or all are equal)."""
    count = differences.shape[-1]
    mean, spread = differences.mean(-1), differences.std(-1, ddof=1)
    if count < FIRST_SKEW:
        return mean, spread, np.zeros_like(mean)
    third = ((differences - mean[..., None]) ** 3).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = count / ((count - 1) * (count - 2)) * third / spread**3
    return mean, spread, np.where(np.isfinite(skew), skew, 0.0)


def _ends(mean: ndarray, spread: ndarray, skew: ndarray, count: ndarray, confidence: float) -> tuple[ndarray, ndarray]:
    """Both ends, of everything broadcast."""
    from scipy.stats import t

    below, above = _stretches(skew, count)
    half = t.ppf((1 + confidence) / 2, count - 1) * spread / np.sqrt(count)
    return mean - half * below, mean + half * above


def _stretches(skew: ndarray, count: ndarray) -> tuple[ndarray, ndarray]:
    """Factors, at least 1, of the lower and the upper half of Student's interval."""
    from scipy.stats import t

    quantile = t.ppf(0.975, count - 1)
    bend = skew / (3 * np.sqrt(count))

    def statistic(y: ndarray) -> ndarray:
        """The t statistic T that Hall's transformation, T + bend T^2 + bend^2 T^3 / 3 + bend / 2, takes to `y`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            exact = (np.cbrt(1 + 3 * bend * (y - bend / 2)) - 1) / bend
        return np.where(abs(bend) < 1e-9, y, exact)

    return np.maximum(1, statistic(quantile) / quantile), np.maximum(1, -statistic(-quantile) / quantile)
