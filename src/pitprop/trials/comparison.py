"""Compare two arms pair by pair: effect, interval, exact sign-flip p-value, and one of four verdicts.

Pure functions of numbers; the interval over the seeds' paired differences is in `interval`. Batches of one seed are
averaged first: they share its weights and are no replicates.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pitprop.records import Comparison, Verdict
from pitprop.trials import confidence_sequence
from pitprop.trials.interval import MOST_SEEDS, Effect, interval, seeds_needed
from pitprop.trials.survival import Survival, seeds_to_show, survival, verdict_of_all

EXACT_UP_TO = 12
"""Seeds up to which all 2**n sign flips are counted; beyond, 9999 random ones."""


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
    stopped_of: int | None = None,
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
        stopped_of: Seeds that were planned, where the arm was stopped before; its interval is then the one of the
            confidence sequence, which holds at whatever seed it is stopped.

    Returns:
        The comparison. Seeds at which either arm has no finite metric are left out of the effect (their numbers stay in
        the lists); with fewer than two pairs left, effect and interval are NaN. Such seeds decide the verdict first:
        see `verdict_of_all`.
    """
    before, after = _by_seed(control), _by_seed(treated)
    pairs = np.isfinite(before) & np.isfinite(after)
    differences = after[pairs] - before[pairs]
    effect = (interval if stopped_of is None else confidence_sequence.interval_at)(differences, confidence)
    alive = survival(before, after)
    finite = verdict(effect, margin=margin, higher_is_better=higher_is_better)
    said = verdict_of_all(alive, finite, confidence, stopped=stopped_of is not None)
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
        verdict=said,
        horizon=horizon,
        plan=plan,
        stopped_of=stopped_of,
        further_seeds=_further_seeds(differences, alive, margin, confidence) if said == "inconclusive" else None,
    )


def verdict(effect: Effect, *, margin: float, higher_is_better: bool) -> Verdict:
    """What the interval and the margin allow to be said; the margin comes first."""
    if -margin <= effect.low and effect.high <= margin:
        return "no difference within margin"
    if effect.low > 0:
        return "better" if higher_is_better else "worse"
    if effect.high < 0:
        return "worse" if higher_is_better else "better"
    return "inconclusive"


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


def each_of(count: int, together: float = 0.95) -> float:
    """Confidence of each of `count` intervals, for all to hold at once with confidence `together` (Bonferroni).

    Holm's step-down would allow narrower ones beside a real effect. It bounds the chance of a false "better" or "worse"
    alone, not that of an interval that misses its effect, nor of a false "no difference".
    """
    return 1 - (1 - together) / max(1, count)


def _further_seeds(
    differences: Float[ndarray, " seed"], alive: Survival, margin: float, confidence: float
) -> int | None:
    """Seeds beyond those that were run that may settle the comparison, were they like these."""
    needed = []
    if (by_survival := seeds_to_show(alive, confidence, MOST_SEEDS)) is not None:
        needed.append(by_survival)
    by_effect = seeds_needed(differences, margin=margin, confidence=confidence)
    if by_effect is not None:  # only seeds at which both sides live count for it
        needed.append(math.ceil(by_effect * alive.seeds / len(differences)))
    return max(1, min(needed) - alive.seeds) if needed else None


def _by_seed(values: Float[ndarray, " seed *batch"] | Sequence[float]) -> Float[ndarray, " seed"]:
    values = np.asarray(values, dtype=np.float64)
    return values if values.ndim == 1 else values.mean(axis=tuple(range(1, values.ndim)))
