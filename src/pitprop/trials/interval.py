"""The interval of a mean paired difference: Student's t, with the side stretched on which skewness asks for more.

Student's t covers 95 % of the time under symmetric differences, heavy tails included, and 81 to 92 % under skewed ones.
Hall's transformation of the t statistic corrects for skewness, and errs where tails are heavy. So each side of
Student's interval is stretched by the factor by which Hall's correction lengthens it at 95 %, and never shortened: it
errs less often than Student's in every shape. Design note 002 has the measurements.

Source: P. Hall, On the removal of skewness by transformation, J. R. Statist. Soc. B 54 (1992), 221-228; the skewness
in it is Fisher and Pearson's G1, corrected for its bias.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

FIRST_SKEW = 4
"""Differences from which on their skewness is looked at; three show too little of it."""

MOST_SEEDS = 1000
"""Seeds up to which it is said how many would settle a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Mean paired difference with its interval."""

    mean: float
    low: float
    high: float


def interval(differences: Float[ndarray, " seed"], confidence: float = 0.95) -> Effect:
    """Mean of `differences` with its interval; NaN under two differences, a point where all are equal."""
    if len(differences) < 2:
        return Effect(mean=math.nan, low=math.nan, high=math.nan)
    low, high = bounds(differences, confidence)
    return Effect(mean=float(differences.mean()), low=float(low), high=float(high))


def bounds(
    differences: Float[ndarray, "*comparison seed"], confidence: float = 0.95
) -> tuple[Float[ndarray, "*comparison"], Float[ndarray, "*comparison"]]:
    """Lower and upper end of the interval of each mean over the last axis, which has at least two differences.

    Args:
        differences: Paired differences, in the metric's unit.
        confidence: Nominal coverage, between 0 and 1.
    """
    return _ends(*_moments(differences), np.array(float(differences.shape[-1])), confidence)


def p_value(differences: Float[ndarray, "*comparison seed"]) -> Float[ndarray, "*comparison"]:
    """The smallest alpha at which the interval at 1 - alpha excludes 0; two-sided, 1 under two differences."""
    from scipy.stats import t  # 1.7 s of import, paid when first compared

    count = differences.shape[-1]
    if count < 2:
        return np.ones(differences.shape[:-1])
    mean, spread, skew = _moments(differences)
    below, above = _stretches(skew, np.array(float(count)))
    error = spread * np.where(mean > 0, below, above) / math.sqrt(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * t.sf(np.where(mean == 0, 0.0, abs(mean) / error), count - 1)


def seeds_needed(differences: Float[ndarray, " seed"], *, margin: float, confidence: float = 0.95) -> int | None:
    """Seeds in all that would settle an inconclusive comparison, were they like these; None beyond 1000.

    Settled means that the interval would exclude 0, or lie inside the margin, whichever comes first, with mean, spread
    and skewness as seen.
    """
    if len(differences) < 2:
        return None
    counts = np.arange(2.0, MOST_SEEDS + 1)
    low, high = _ends(*_moments(differences), counts, confidence)
    settled = counts[(low > 0) | (high < 0) | ((-margin < low) & (high < margin))]
    return int(settled[0]) if len(settled) else None


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
