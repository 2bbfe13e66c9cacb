"""From the records of runs to comparisons: each arm against the control, on the seeds of one round."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.comparison import compare, holm_confidences, interval, survival
from pitprop.trials.execute import RUN_IT, Results, metric_of
from pitprop.trials.interventions._insertion import insertion_text
from pitprop.trials.plan import CONTROL, Arm, Plan


def judge(
    plan: Plan, arms: Sequence[Arm], seeds: Sequence[int], results: Results, *, holm: bool
) -> tuple[Comparison, ...]:
    """Compare each of `arms` with the control on `seeds`.

    Args:
        plan: Metric, direction, margin and horizon; its hash goes into every comparison.
        arms, seeds: What was run.
        results: Records by (arm, seed).
        holm: Whether the intervals are widened by Holm's method, else by Bonferroni's; either way all of them together
            err at most 5 %. Holm's levels are chosen to find effects; what is to be shown is "no difference", where
            Bonferroni's are needed.
    """

    def metrics(arm: str) -> list[float]:
        return [metric_of(results[arm, seed], plan.metric) for seed in seeds]

    control = metrics(CONTROL)
    levels = [1 - 0.05 / max(1, len(arms))] * len(arms)
    if holm and arms:
        levels = holm_confidences([finite_differences(control, metrics(arm.name)) for arm in arms])
    return tuple(
        compare(
            control,
            metrics(arm.name),
            arm=arm.name,
            changes=_changes(arm, [results[arm.name, seed] for seed in seeds]),
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


def _changes(arm: Arm, records: Sequence[Mapping[str, Any]]) -> str:
    """What the arm changes, and for a module that was inserted, what the runs measured of that."""
    measured = [float(v) for record in records for done in record.get("inserted", ()) for v in done.values()]
    return f"{arm.describe()} ({insertion_text(measured)})" if measured else arm.describe()


def refuse_failed_control(results: Results, seeds: Sequence[int]) -> None:
    """Raise where the control run has no result at any of `seeds`."""
    records = [results[CONTROL, seed] for seed in seeds]
    if all(record["status"] == "failed" for record in records):
        raise PitpropError(
            f"The control run failed at every seed: {records[0]['error']}",
            means="There is nothing to compare an arm with.",
            do=RUN_IT if "\nDo: " not in records[0]["error"] else "",
        )


def gain(comparison: Comparison) -> float:
    """Effect in the direction that is good; NaN where there is none."""
    return comparison.effect if comparison.higher_is_better else -comparison.effect


def saved(comparison: Comparison) -> int:
    """Runs that the arm saves, less those that it loses: seeds at which only one side has a finite metric."""
    alive = survival(comparison.control, comparison.treated)
    return alive.saved - alive.lost


def rank(comparison: Comparison) -> tuple[int, float]:
    """Key by which arms are ranked: runs saved, then gain (the treated side's own mean where there are no pairs)."""
    value = gain(comparison)
    if math.isnan(value):
        sign = 1 if comparison.higher_is_better else -1
        treated = [sign * x for x in comparison.treated if math.isfinite(x)]
        value = sum(treated) / len(treated) if treated else -math.inf
    return saved(comparison), value


def inert(arms: Sequence[Arm], seeds: Sequence[int], metric: str, results: Results) -> tuple[str, ...]:
    """Arms that did nothing at any seed: nowhere acted, or state and metrics at the end are the control's bit for bit.

    Two states full of NaN are alike whatever was done, so a run without a finite `metric` is no sign.
    """

    def idle(arm: str, seed: int) -> bool:
        record, control = results[arm, seed], results[CONTROL, seed]
        if record["status"] != "done" or control["status"] != "done" or record["state"] is None:
            return False
        if record["acted"] and not any(record["acted"]):
            return True
        same = all(record[key] == control[key] for key in ("state", "metrics"))
        return same and math.isfinite(metric_of(record, metric))

    return tuple(arm.name for arm in arms if all(idle(arm.name, seed) for seed in seeds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What an arm does to a metric that doesn't decide; no direction is good, so there is no verdict."""

    arm: str
    metric: str
    control: tuple[float, ...]
    treated: tuple[float, ...]
    effect: float
    """Mean paired difference, with its own 95 % interval."""
    low: float
    high: float
    seeds: tuple[int, ...]


def guard(arms: Sequence[str], metrics: Sequence[str], seeds: Sequence[int], results: Results) -> tuple[Guard, ...]:
    """Effect of each of `arms` on each of `metrics`, on `seeds`."""
    found = []
    for arm in arms:
        for metric in metrics:
            control, treated = ([metric_of(results[side, seed], metric) for seed in seeds] for side in (CONTROL, arm))
            effect = interval(finite_differences(control, treated))
            found.append(
                Guard(
                    arm=arm,
                    metric=metric,
                    control=tuple(control),
                    treated=tuple(treated),
                    effect=effect.mean,
                    low=effect.low,
                    high=effect.high,
                    seeds=tuple(seeds),
                )
            )
    return tuple(found)


def finite_differences(control: Sequence[float], treated: Sequence[float]) -> np.ndarray:
    """Paired differences at the seeds where both arms have a finite metric."""
    before, after = np.asarray(control, dtype=np.float64), np.asarray(treated, dtype=np.float64)
    pairs = np.isfinite(before) & np.isfinite(after)
    return after[pairs] - before[pairs]
