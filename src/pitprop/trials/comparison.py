"""Compare two arms pair by pair: effect, interval, exact sign-flip p-value, and one of four verdicts.

Pure functions of numbers. The interval is Student's t over the seeds' paired differences; design note 002 has the
measurements behind that choice. Batches of one seed are averaged first: they share its weights and are no replicates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pitprop.records import Comparison, Verdict

SURVIVAL_P = 0.05
"""One-sided p-value of the sign test at which surviving, or not, decides a comparison; 5 seeds of 5 have .031."""

EXACT_UP_TO = 12
"""Seeds up to which all 2**n sign flips are counted; beyond, 9999 random ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """At how many seeds each side has a finite metric."""

    control: int
    treated: int
    seeds: int
    saved: int
    """Seeds at which only the treated side is finite."""
    lost: int
    """Seeds at which only the control is."""

    @property
    def p_saved(self) -> float:
        """Exact one-sided p-value of the sign test (McNemar's) that the treatment saves runs."""
        return _tail(self.saved, self.saved + self.lost)

    @property
    def p_lost(self) -> float:
        """The same for losing runs."""
        return _tail(self.lost, self.saved + self.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Mean paired difference with its interval."""

    mean: float
    low: float
    high: float


def compare(
    control: Float[ndarray, " seed"] | Float[ndarray, "seed batch"] | Sequence[float],
    treated: Float[ndarray, " seed"] | Float[ndarray, "seed batch"] | Sequence[float],
    *,
    arm: str,
    seeds: Sequence[int],
    metric: str,
    changes: str = "",
    higher_is_better: bool = True,
    margin: float = 0.0,
    horizon: int = 0,
    plan: str = "",
    confidence: float = 0.95,
) -> Comparison:
    """The paired effect of one arm.

    Args:
        control: Metric of the control arm by seed, or by seed and batch.
        treated: Metric of the treated arm, in the same shape and order.
        arm, changes, metric, horizon, plan: What was compared; written into the record.
        seeds: Seed of each row.
        higher_is_better: Direction in which the metric improves.
        margin: Difference that is too small to matter; fixed before the runs.
        confidence: Nominal coverage of the interval, between 0 and 1.

    Returns:
        The comparison. Seeds at which either arm has no finite metric are left out of the effect (their numbers stay in
        the lists); with fewer than two pairs left, effect and interval are NaN. Such seeds decide the verdict first:
        see `verdict_of_all`.
    """
    before, after = _by_seed(control), _by_seed(treated)
    pairs = np.isfinite(before) & np.isfinite(after)
    differences = after[pairs] - before[pairs]
    effect = interval(differences, confidence)
    return Comparison(
        arm=arm,
        changes=changes,
        metric=metric,
        higher_is_better=higher_is_better,
        seeds=tuple(seeds),
        control=tuple(before.tolist()),
        treated=tuple(after.tolist()),
        effect=effect.mean,
        low=effect.low,
        high=effect.high,
        confidence=confidence,
        p_value=sign_flip_p(differences),
        margin=margin,
        verdict=verdict_of_all(
            survival(before, after), verdict(effect, margin=margin, higher_is_better=higher_is_better)
        ),
        horizon=horizon,
        plan=plan,
    )


def interval(differences: Float[ndarray, " seed"], confidence: float = 0.95) -> Effect:
    """Mean of `differences` with its Student t interval; NaN under two differences, a point where all are equal."""
    count = len(differences)
    if count < 2:
        return Effect(mean=math.nan, low=math.nan, high=math.nan)
    mean = float(differences.mean())
    half = _half_width(float(differences.std(ddof=1)), count, confidence)
    return Effect(mean=mean, low=mean - half, high=mean + half)


def verdict(effect: Effect, *, margin: float, higher_is_better: bool) -> Verdict:
    """What the interval and the margin allow to be said; the margin comes first."""
    if -margin <= effect.low and effect.high <= margin:
        return "no difference within margin"
    if effect.low > 0:
        return "better" if higher_is_better else "worse"
    if effect.high < 0:
        return "worse" if higher_is_better else "better"
    return "inconclusive"


def survival(
    control: Float[ndarray, " seed"] | Sequence[float], treated: Float[ndarray, " seed"] | Sequence[float]
) -> Survival:
    """Count the seeds at which either side has a finite metric."""
    before, after = np.isfinite(np.asarray(control)), np.isfinite(np.asarray(treated))
    return Survival(
        control=int(before.sum()),
        treated=int(after.sum()),
        seeds=len(before),
        saved=int((after & ~before).sum()),
        lost=int((before & ~after).sum()),
    )


def verdict_of_all(alive: Survival, finite: Verdict) -> Verdict:
    """The verdict over all seeds: survival first, then `finite`, the one over the seeds where both sides are finite.

    A sign test over the seeds at which just one side is finite decides by itself where its one-sided p-value is at most
    .05. Where it does not, such seeds forbid what they contradict: an arm that loses more runs than it saves is never
    "better", one that saves more never "worse", and only one that does neither makes "no difference".
    """
    if alive.saved == alive.lost == 0:
        return finite
    if alive.p_saved <= SURVIVAL_P:
        return "better"
    if alive.p_lost <= SURVIVAL_P:
        return "worse"
    agrees = (finite == "better" and alive.saved >= alive.lost) or (finite == "worse" and alive.lost >= alive.saved)
    return finite if agrees else "inconclusive"


def sign_flip_p(differences: Float[ndarray, " seed"]) -> float:
    """Two-sided p-value of the mean under all sign flips (Fisher's randomisation test); NaN under two differences.

    Exact for at most 12 seeds, where it is never under 2 / 2**n; it assumes only that a difference is as likely
    positive as negative.
    """
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    from scipy.stats import permutation_test  # 1.7 s of import, paid when first compared

    # scipy counts all 2**n flips when it is allowed that many.
    resamples = 2 ** len(differences) if len(differences) <= EXACT_UP_TO else 9999
    result = permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=resamples, rng=0
    )
    return float(result.pvalue)


def holm_confidences(differences: Sequence[Float[ndarray, " seed"]], confidence: float = 0.95) -> list[float]:
    """Confidence at which each arm's interval may be read, so that all of them together err at most 1 - `confidence`.

    Holm's step-down on the t-tests of the arms: the most significant of m arms is judged at 1 - alpha / m, the next at
    1 - alpha / (m - 1), until one is not significant; that one and the rest keep its level.
    """
    from scipy.stats import t

    def p_value(d: Float[ndarray, " seed"]) -> float:
        if len(d) < 2:
            return 1.0
        error = float(d.std(ddof=1)) / math.sqrt(len(d))
        if error == 0:
            return 0.0 if d.any() else 1.0
        return float(2 * t.sf(abs(float(d.mean())) / error, len(d) - 1))

    p_values = [p_value(d) for d in differences]
    alpha, left = 1 - confidence, len(differences)
    levels = [confidence] * len(differences)
    for index in sorted(range(len(p_values)), key=p_values.__getitem__):
        levels[index] = 1 - alpha / left
        if p_values[index] <= alpha / left:
            left -= 1
    return levels


def seeds_needed(differences: Float[ndarray, " seed"], *, margin: float, confidence: float = 0.95) -> int | None:
    """Seeds in all that would settle an inconclusive comparison, were mean and spread as seen; None beyond 1000.

    Settled means that the interval would exclude 0, or lie inside the margin, whichever comes first.
    """
    if len(differences) < 2:
        return None
    mean, spread = abs(float(differences.mean())), float(differences.std(ddof=1))
    target = max(mean, margin - mean)
    for count in range(2, 1001):
        if _half_width(spread, count, confidence) < target:
            return count
    return None


def _tail(heads: int, flips: int) -> float:
    return sum(math.comb(flips, k) for k in range(heads, flips + 1)) / 2**flips


def _half_width(spread: float, count: int, confidence: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, count - 1)) * spread / math.sqrt(count)


def _by_seed(values: Float[ndarray, " seed *batch"] | Sequence[float]) -> Float[ndarray, " seed"]:
    values = np.asarray(values, dtype=np.float64)
    return values if values.ndim == 1 else values.mean(axis=tuple(range(1, values.ndim)))
