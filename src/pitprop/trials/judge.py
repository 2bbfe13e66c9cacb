"""From the records of runs to comparisons: each arm against the control, on the seeds of one round."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.comparison import compare, each_of
from pitprop.trials.designs import Factorial
from pitprop.trials.execute import RUN_IT, Results, metric_of
from pitprop.trials.interventions._insertion import insertion_text
from pitprop.trials.looks import ALPHA, share
from pitprop.trials.plan import CONTROL, Arm, Plan
from pitprop.trials.survival import survival

SPENT = 0.005
"""Chance of stopping any arm that does nothing, in a trial that stops early; the intervals at the end have the rest.

Half of it is for arms whose metric is worse, half for arms whose runs die.
"""


def judge(
    plan: Plan,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    results: Results,
    stopped: Mapping[str, int] | None = None,
) -> tuple[Comparison, ...]:
    """Compare each of `arms` with the control on `seeds`, but those that are `inert`: of them nothing can be learnt.

    Args:
        plan: Metric, direction, margin and horizon; its hash goes into every comparison.
        arms, seeds: What was run.
        results: Records by (arm, seed).
        stopped: Seeds after which an arm was stopped, for those that were.

    Returns:
        The comparisons, in the order of `arms`. Their intervals hold together (`each_of`): at 95 %, or at more where
        the plan pays for other looks and for stopping.
    """
    stopped = stopped or {}
    idle = inert(arms, seeds, plan.metric, results)
    arms = [arm for arm in arms if arm.name not in idle]
    together = 1 - (ALPHA - (SPENT if plan.early_stop else 0)) * share(plan.look)  # stopping errs once in all looks
    return tuple(
        judge_stopped(plan, arm, seeds[: stopped[arm.name]], results)
        if arm.name in stopped
        else _compared(plan, arm, seeds, results, confidence=each_of(len(arms), together))
        for arm in arms
    )


def judge_stopped(plan: Plan, arm: Arm, seeds: Sequence[int], results: Results) -> Comparison:
    """Compare `arm` with the control, were it stopped after `seeds`, at Bonferroni's level.

    An arm is stopped on one of the confidence sequence's two sides only, so half of the sequence's error is spent; the
    other half is spent by the runs that die (`Survival.shows`).
    """
    confidence = each_of(len(plan.arms), 1 - SPENT)
    return _compared(plan, arm, seeds, results, confidence=confidence, stopped_of=len(plan.seeds))


def _compared(
    plan: Plan,
    arm: Arm,
    seeds: Sequence[int],
    results: Results,
    *,
    confidence: float,
    stopped_of: int | None = None,
) -> Comparison:
    control, treated = _metrics(plan, arm.name, seeds, results)
    return compare(
        control,
        treated,
        arm=arm.name,
        changes=_changes(arm, [results[arm.name, seed] for seed in seeds]),
        seeds=seeds,
        metric=plan.metric,
        higher_is_better=plan.higher_is_better,
        margin=plan.margin,
        horizon=plan.horizon,
        plan=plan.hash,
        confidence=confidence,
        stopped_of=stopped_of,
    )


def _metrics(plan: Plan, arm: str, seeds: Sequence[int], results: Results) -> tuple[list[float], list[float]]:
    """Metric of the control and of `arm`, by seed."""
    control, treated = ([metric_of(results[side, seed], plan.metric) for seed in seeds] for side in (CONTROL, arm))
    return control, treated


def _changes(arm: Arm, records: Sequence[Mapping[str, Any]]) -> str:
    """What the arm changes, and for a module that was inserted, what the runs measured of that."""
    measured = [float(v) for record in records for done in record.get("inserted", ()) for v in done.values()]
    return f"{arm.describe()} ({insertion_text(measured)})" if measured else arm.describe()


def refuse_failed_control(results: Results, seeds: Sequence[int]) -> None:
    """Raise where the control run has no result at any of `seeds` (those that it ran on)."""
    records = [results[CONTROL, seed] for seed in seeds if (CONTROL, seed) in results]
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
    """Arms that were not tested, for they did nothing.

    Those of which a run found that an intervention never acted where it should; and those that, wherever it can be
    told, nowhere acted, or whose state and metrics at the end are the control's bit for bit. It can't be told where
    both sides have no finite `metric`: two states full of NaN are alike whatever was done.

    Args:
        arms, seeds: What was run; a seed that an arm was stopped before has no record.
        metric: The metric that decides.
        results: Records by (arm, seed).
    """

    def nothing(arm: str) -> bool:
        ran = [(results[arm, seed], results[CONTROL, seed]) for seed in seeds if (arm, seed) in results]
        if any(record.get("untested") for record, _ in ran):
            return True
        told = [found for pair in ran if (found := _idle(*pair, metric)) is not None]
        return bool(told) and all(told)

    return tuple(arm.name for arm in arms if nothing(arm.name))


def inert_changes(design: Factorial, seeds: Sequence[int], metric: str, results: Results) -> tuple[str, ...]:
    """Names of the changes of a factorial that did nothing in any run, wherever it can be told.

    Told by a run that was found untested; by one that is, bit for bit, the run without the change alone; or, where a
    fraction lacks that one, by what the change itself says it took hold of.
    """
    runs = dict(zip(design.levels, design.runs, strict=True))

    def found(i: int, made: tuple[bool, ...], seed: int) -> bool | None:
        record = results[runs[made], seed]
        if record.get("untested"):
            return True
        without = runs.get((*made[:i], False, *made[i + 1 :]))
        if without is not None:
            return _idle(record, results[without, seed], metric)
        late = [change for change in itertools.compress(design.changes, made) if not hasattr(change, "knobs")]
        if record["status"] != "done" or len(record["acted"]) != len(late) or design.changes[i] not in late:
            return None
        return not record["acted"][late.index(design.changes[i])]

    def nothing(i: int) -> bool:
        told = {found(i, made, seed) for made in design.levels if made[i] for seed in seeds}
        return True in told and False not in told

    return tuple(name for i, name in enumerate(design.names) if nothing(i))


def _idle(record: Mapping[str, Any], other: Mapping[str, Any], metric: str) -> bool | None:
    """Whether what `record` has more than `other` did nothing; None where neither has a finite `metric`."""
    if not any(math.isfinite(metric_of(side, metric)) for side in (record, other)):
        return None
    if record["status"] != "done" or other["status"] != "done" or record.get("state") is None:
        return False
    if record["acted"] and not any(record["acted"]):
        return True
    return all(record[key] == other[key] for key in ("state", "metrics"))


def finite_differences(control: Sequence[float], treated: Sequence[float]) -> np.ndarray:
    """Paired differences at the seeds where both arms have a finite metric."""
    before, after = np.asarray(control, dtype=np.float64), np.asarray(treated, dtype=np.float64)
    pairs = np.isfinite(before) & np.isfinite(after)
    return after[pairs] - before[pairs]
