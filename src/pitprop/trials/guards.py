"""Guard metrics: what an arm does to the metrics that don't decide, so that no remedy is bought with something else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pitprop.trials.confidence_sequence import interval_at
from pitprop.trials.execute import Results, metric_of
from pitprop.trials.interval import interval
from pitprop.trials.judge import finite_differences
from pitprop.trials.plan import CONTROL
from pitprop.trials.recipe import read_guard

Change = Literal["better", "worse", "changed", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What an arm does to a metric that doesn't decide."""

    arm: str
    metric: str
    control: tuple[float, ...]
    treated: tuple[float, ...]
    effect: float
    """Mean paired difference, treated minus control."""
    low: float
    high: float
    seeds: tuple[int, ...]
    confidence: float = 0.95
    """Of the interval; over all arms and guards together it is 95 %."""
    verdict: Change = "inconclusive"
    """Whether the interval excludes 0, and where; "changed" where nobody said which direction is good."""


def guard(
    arms: Sequence[str],
    guards: Sequence[str],
    seeds: Sequence[int],
    results: Results,
    stopped: Mapping[str, int] | None = None,
    alpha: float = 0.05,
) -> tuple[Guard, ...]:
    """Effect of each of `arms` on each of `guards`, on `seeds`.

    Args:
        arms: Names of arms that ran.
        guards: Metrics, as `read_guard` takes them.
        seeds: What they ran on.
        results: Records by (arm, seed).
        stopped: Seeds after which an arm was stopped, for those that were.
        alpha: What all of them together may err.
    """
    stopped = stopped or {}
    confidence = 1 - alpha / max(1, len(arms) * len(guards))
    found = []
    for arm in arms:
        ran = tuple(seeds[: stopped.get(arm)])
        for metric, higher_is_better in map(read_guard, guards):
            control, treated = ([metric_of(results[side, seed], metric) for seed in ran] for side in (CONTROL, arm))
            differences = finite_differences(control, treated)
            effect = (interval_at if arm in stopped else interval)(differences, confidence)
            sign = 1 if effect.low > 0 else -1 if effect.high < 0 else 0
            found.append(
                Guard(
                    arm=arm,
                    metric=metric,
                    control=tuple(control),
                    treated=tuple(treated),
                    effect=effect.mean,
                    low=effect.low,
                    high=effect.high,
                    seeds=ran,
                    confidence=confidence,
                    verdict=_change(sign, higher_is_better),
                )
            )
    return tuple(found)


def _change(sign: int, higher_is_better: bool | None) -> Change:
    if sign == 0:
        return "inconclusive"
    if higher_is_better is None:
        return "changed"
    return "better" if (sign > 0) == higher_is_better else "worse"
