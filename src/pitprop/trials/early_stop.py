"""Stop an arm that is clearly worse: its runs on the seeds that are left could change nothing but the bill.

An arm is stopped at the first seed at which its confidence sequence lies wholly beyond the margin, on the wrong side,
or at which the runs that it loses are no chance any more (`Survival.evidence_lost`). Both may be looked at after every
seed. What they may err, half each, is taken from the 5 % of the trial (`judge.SPENT`), so that all arms together err no
more often, where differences are symmetric under the null (design note 003 has skewed ones).

Decided from the records in the order of the plan's seeds, never in that of their arrival: after a kill, or with other
workers, the same arms stop at the same seeds.
"""

import math
from pathlib import Path

from pitprop.records import Comparison
from pitprop.trials.confidence_sequence import FIRST
from pitprop.trials.execute import Results, run_arms, write_plan
from pitprop.trials.executors import Executor
from pitprop.trials.judge import judge_stopped
from pitprop.trials.plan import Arm, Plan
from pitprop.trials.progress import OnRun
from pitprop.trials.survival import survival

FULL = 0.9
"""Share of the workers' time that a wave of runs fills at least, were all runs of the same length."""


def run_staged(
    plan: Plan, folder: Path, executor: Executor, on_run: OnRun | None = None
) -> tuple[Results, dict[str, int]]:
    """Write down `plan`, then run the control and its arms, a few seeds at a time, without the arms that are stopped.

    A plan that doesn't stop early is run at once.

    Returns:
        The records, and the seeds after which each arm that was stopped was stopped.
    """
    write_plan(plan, folder)
    results: Results = {}
    stopped: dict[str, int] = {}
    done = 0
    while done < len(plan.seeds):
        going = [arm for arm in plan.arms if arm.name not in stopped]
        if not going:
            break
        some = max(wave(1 + len(going), executor.workers), FIRST - done)
        ahead = done + some if plan.early_stop else len(plan.seeds)
        results |= run_arms(plan, going, plan.seeds[done:ahead], folder, executor, on_run)
        done = min(ahead, len(plan.seeds))
        for arm in going if plan.early_stop else ():
            after = stopped_after(plan, arm, results, done)
            stopped |= {} if after is None else {arm.name: after}
    return results, stopped


def stopped_after(plan: Plan, arm: Arm, results: Results, done: int) -> int | None:
    """Seeds after which `arm` is stopped, of the first `done`; None where it goes on."""
    looks = range(FIRST, min(done + 1, len(plan.seeds)))
    return next((n for n in looks if _clearly_worse(judge_stopped(plan, arm, plan.seeds[:n], results))), None)


def wave(arms: int, workers: int) -> int:
    """Seeds to run before the next decision: the fewest that keep `workers` busy."""
    count = 1
    while count * arms < FULL * workers * math.ceil(count * arms / workers):
        count += 1
    return count


def _clearly_worse(c: Comparison) -> bool:
    beyond = c.high < -c.margin if c.higher_is_better else c.low > c.margin
    dies = survival(c.control, c.treated).shows(c.confidence, stopped=True) == "worse"
    return c.verdict == "worse" and (beyond or dies)
