"""From the records of runs to comparisons: each arm against the control, on the seeds of one round."""

from collections.abc import Sequence

import numpy as np

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.comparison import compare, holm_confidences
from pitprop.trials.execute import Results, metric_of
from pitprop.trials.plan import CONTROL, Arm, Plan


def judge(
    plan: Plan, arms: Sequence[Arm], seeds: Sequence[int], results: Results, *, holm: bool
) -> tuple[Comparison, ...]:
    """Compare each of `arms` with the control on `seeds`.

    Args:
        plan: Metric, direction, margin and horizon; its hash goes into every comparison.
        arms, seeds: What was run.
        results: Records by (arm, seed).
        holm: Whether the intervals are widened by Holm's method, so that all of them together err at most 5 %.
    """

    def metrics(arm: str) -> list[float]:
        return [metric_of(results[arm, seed], plan.metric) for seed in seeds]

    control = metrics(CONTROL)
    levels = [0.95] * len(arms)
    if holm and arms:
        levels = holm_confidences([finite_differences(control, metrics(arm.name)) for arm in arms])
    return tuple(
        compare(
            control,
            metrics(arm.name),
            arm=arm.name,
            changes=arm.describe(),
            seeds=seeds,
            metric=plan.metric,
            higher_is_better=plan.higher_is_better,
            margin=plan.margin,
            horizon=plan.horizon,
            plan=plan.hash,
            confidence=level,
        )
        for arm, level in zip(arms, levels, strict=True)
    )


def refuse_failed_control(results: Results, seeds: Sequence[int]) -> None:
    """Raise where the control run has no result at any of `seeds`."""
    records = [results[CONTROL, seed] for seed in seeds]
    if all(record["status"] == "failed" for record in records):
        raise PitpropError(
            f"The control run failed at every seed: {records[0]['error']}",
            means="There is nothing to compare an arm with.",
            do="make the recipe run to its end; `workers.log` in the folder has the whole error.",
        )


def gain(comparison: Comparison) -> float:
    """Effect in the direction that is good; NaN where there is none."""
    return comparison.effect if comparison.higher_is_better else -comparison.effect


def finite_differences(control: Sequence[float], treated: Sequence[float]) -> np.ndarray:
    """Paired differences at the seeds where both arms have a finite metric."""
    differences = np.asarray(treated, dtype=np.float64) - np.asarray(control, dtype=np.float64)
    return differences[np.isfinite(differences)]
