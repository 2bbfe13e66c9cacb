"""Guard metrics: what an arm does to the metrics that don't decide, so that no remedy is bought with something else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pitprop.trials.comparison import each_of, verdict
from pitprop.trials.confidence_sequence import interval_at
from pitprop.trials.execute import Results, metric_of
from pitprop.trials.interval import Effect, interval
from pitprop.trials.judge import finite_differences
from pitprop.trials.plan import CONTROL
from pitprop.trials.recipe import read_guard
from pitprop.trials.survival import Survival, survival, verdict_of_all

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
    """Survival first, as for the metric that decides, then whether the interval excludes 0, and where.

    "changed" where nobody said which direction is good; to lose the number is worse in any direction, and where more
    numbers are lost than saved, or fewer, survival alone speaks of such a guard.
    """

    @property
    def moved(self) -> bool:
        """Whether the interval excludes 0; where it doesn't, it is survival that decides."""
        return self.low > 0 or self.high < 0


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
    confidence = each_of(len(arms) * len(guards), 1 - alpha)
    found = []
    for arm in arms:
        ran = tuple(seeds[: stopped.get(arm)])
        for metric, higher_is_better in map(read_guard, guards):
            control, treated = ([metric_of(results[side, seed], metric) for seed in ran] for side in (CONTROL, arm))
            differences = finite_differences(control, treated)
            effect = (interval_at if arm in stopped else interval)(differences, confidence)
            alive = survival(control, treated)
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
                    verdict=_change(effect, alive, higher_is_better, confidence, arm in stopped),
                )
            )
    return tuple(found)


def _change(effect: Effect, alive: Survival, higher_is_better: bool | None, confidence: float, stopped: bool) -> Change:
    if shown := alive.shows(confidence, stopped=stopped):
        return shown
    if higher_is_better is None and alive.saved != alive.lost:
        return "inconclusive"  # no side of the interval agrees with survival, and both would err too often beside it
    finite = verdict(effect, margin=0.0, higher_is_better=higher_is_better is not False)
    said = verdict_of_all(alive, finite, confidence, stopped=stopped)
    if said not in ("better", "worse"):
        return "inconclusive"
    return "changed" if higher_is_better is None else said
