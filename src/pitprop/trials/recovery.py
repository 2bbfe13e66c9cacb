"""Rescue: from a collapsed checkpoint to one that trains again, by a controlled trial in two rounds.

    find the last good snapshot -> screen single ways (roll back, remedies, fresh optimizer, new weights at the site)
    against going on as it is -> where they leave something to gain, rolling back with the best of them -> confirm on
    fresh seeds -> watch the confirmed -> write the winner's state as a new checkpoint

Every arm starts from a checkpoint; seeds decide the order of the data and whatever else the recipe draws after its
build. Nothing is ever written to the original.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import Comparison, Finding
from pitprop.rules import detect
from pitprop.trace import Reader
from pitprop.trials.command import command
from pitprop.trials.conclude import Conclusion, finite_mean, winners
from pitprop.trials.earlier import keep_earlier
from pitprop.trials.execute import Results, make_folder, metric_of, run_specs, write_plan
from pitprop.trials.executors import Executor
from pitprop.trials.executors.place import open_executor
from pitprop.trials.fork import kept_rng
from pitprop.trials.interventions import Intervention
from pitprop.trials.judge import inert, judge, rank, refuse_failed_control
from pitprop.trials.knobs import knobs_to_json, make_knobs
from pitprop.trials.load import load_recipe
from pitprop.trials.lock import held
from pitprop.trials.looks import for_the_next, numbered
from pitprop.trials.plan import CONTROL, Arm, Plan, content_hash
from pitprop.trials.progress import Meter, OnProgress
from pitprop.trials.reference import reference_to
from pitprop.trials.rescue_arms import Origin, combined_arms, dissect, find_origin, single_arms
from pitprop.trials.rescue_story import story
from pitprop.trials.rescue_text import nothing_confirmed, nothing_to_rescue, rescued
from pitprop.trials.rescued import write_rescued
from pitprop.trials.run import RunSpec, spec_source
from pitprop.trials.trial_file import failed_runs, write_trial
from pitprop.trials.two_rounds import SCREEN_SEEDS, confirm_best, plan_rounds, refuse_single_seeds, runs_of
from pitprop.trials.watched import FINAL, failures, watch_runs

BUDGET = 300
"""Runs that a rescue may take, unless it is told otherwise."""

LATE_ROWS = 60
"""Rows that a rule of patience needs to speak, with some to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """What a rescue found; the same is in the folder's `trial.json`."""

    folder: Path
    """Holds `plan.json`, `runs/`, `watched/`, `trial.json` and the new checkpoint; `pitprop report` shows it."""
    collapsed: bool
    """Whether the checkpoint has a failure to be rescued from."""
    checkpoint: Path | None
    """The new checkpoint; None where nothing was confirmed."""
    findings: tuple[Finding, ...]
    """Of the run, or of going on from the checkpoint."""
    conclusion: Conclusion
    """The answer."""
    origin: Origin
    """What was started from."""
    plan: Plan | None = None
    """The plan of the trial; None when nothing had collapsed."""
    screen: tuple[Comparison, ...] = ()
    """Every arm against going on as it is, on the screening seeds."""
    confirm: tuple[Comparison, ...] = ()
    """The best arms on fresh seeds (95 % together, by Bonferroni's method)."""
    failed: tuple[Mapping[str, Any], ...] = ()
    """Runs that raised or whose process died: arm, seed, error."""
    wall_s: float = math.nan
    """Seconds that it took."""


def rescue(
    checkpoint: str | Path,
    reference: str,
    *,
    run: str | Path | None = None,
    knobs: Mapping[str, Any] | None = None,
    seeds: int = 5,
    screen_seeds: int = SCREEN_SEEDS,
    suspects: Sequence[Intervention] = (),
    budget: int = BUDGET,
    on: str = "local",
    workers: int | None = None,
    timeout_s: float | None = None,
    executor: Executor | None = None,
    folder: str | Path,
    progress: OnProgress | None = None,
) -> Rescue:
    """Find out what brings a collapsed checkpoint back, and write the state that it leads to.

    Args:
        checkpoint: Folder of a run that was watched with `snapshots`, or a checkpoint of model weights (with optimizer
            state where it has one).
        reference: `file.py:attr` or `package.module:attr` of the `Recipe` that trains it.
        run: Folder of the run that a checkpoint file comes from, for its findings and its last good snapshot.
        knobs: Knobs that the checkpoint was trained with; text is read by the field's type.
        seeds: Fresh seeds of the confirming round.
        screen_seeds: Seeds of the screening round.
        suspects: Interventions to try beside the derived ones.
        budget: Runs in all, at most. What the single ways and the confirming round leave goes to rolling back together
            with the best of them, where they leave something to gain.
        on, workers, timeout_s: Where to run, how many at a time, and when a run hangs; see `open_executor`.
        executor: An executor that is open already, instead.
        folder: Where everything is written. Runs that it already holds are not run again, so the same call resumes.
        progress: Told how far it is.

    Raises:
        PitpropError: The checkpoint cannot be read without executing it or does not fit the recipe's model, the budget
            does not hold the single ways and the confirming round, or the control fails at every seed.
    """
    start = time.monotonic()
    refuse_single_seeds(seeds, screen_seeds)
    recipe = load_recipe(reference)
    reference = reference_to(reference)
    values = make_knobs(recipe, knobs)
    origin = find_origin(Path(checkpoint), None if run is None else Path(run))
    for original in filter(None, (Path(checkpoint), None if run is None else Path(run))):
        if Path(folder).resolve().is_relative_to(original.resolve()):
            raise PitpropError(
                f"`{folder}` lies in `{original}`.",
                means="The original is never written to.",
                do="give another folder.",
            )
    with kept_rng():
        anatomy = dissect(recipe, values, origin)
    folder = make_folder(folder)
    control = RunSpec(
        recipe=reference,
        # Every run of this trial, the control too, is decided by the checkpoint as well.
        source=content_hash([spec_source(reference), origin.collapsed.digest]),
        knobs=knobs_to_json(values),
        interventions=(origin.collapsed,),
        seed=0,
        horizon=recipe.steps,
    )
    options = {"--run": run, "--seeds": seeds, "--screen-seeds": screen_seeds, "--budget": budget, "--out": folder}
    again = command("rescue", checkpoint, reference, knobs=knobs, suspects=suspects, options=options)
    meter = Meter(progress, total=1)

    with contextlib.ExitStack() as stack:
        stack.enter_context(held(folder))
        pool = executor or stack.enter_context(open_executor(on, workers, folder=folder, timeout_s=timeout_s))
        meter.workers = pool.workers
        findings = origin.findings
        if findings is None:
            meter.enter("watching it go on as it is")
            (watched,) = watch_runs({folder / "watched" / control.address: control}, pool, on_run=meter.tick)
            findings = tuple(watched["findings"])
        failing = failures(findings)
        if not failing:
            result = Rescue(
                folder=folder,
                collapsed=False,
                checkpoint=None,
                findings=findings,
                conclusion=nothing_to_rescue(findings, origin.too_few),
                origin=origin,
                wall_s=time.monotonic() - start,
            )
            keep_earlier(folder, {})
            write_trial(result, {}, again, beside={"rescue": story(result, control)})
            return result

        arms = single_arms(origin, anatomy, findings, suspects)
        left = budget - runs_of(len(arms), screen_seeds, seeds)
        if left < 0:
            raise PitpropError(
                f"A budget of {budget} runs does not hold {len(arms)} single ways and the confirming round.",
                do=f"give at least {budget - left}, or fewer seeds.",
            )
        plan = plan_rounds(recipe, control, arms, seeds=seeds, screen_seeds=screen_seeds)
        plan = numbered(plan, folder, first=0)
        keep_earlier(folder, plan.to_dict())
        write_plan(plan, folder)
        meter.enter(
            f"screening {len(arms)} ways on {screen_seeds} seeds",
            total=meter.done + runs_of(len(arms), screen_seeds, seeds),
        )
        trial = _Trial(control, folder, pool, meter)
        results = trial.run(arms, plan.seeds)
        refuse_failed_control(results, plan.seeds)
        screen = judge(plan, arms, plan.seeds, results)
        idle = inert(arms, plan.seeds, plan.metric, results)
        if trial.leaves_something(origin, screen, plan):
            # The plan needs no change: they follow from the single ways by a rule that does not look at any other run.
            more = combined_arms(origin, arms, screen, plan.margin, idle)[: left // screen_seeds]
            meter.enter(f"screening {len(more)} ways together", total=meter.total + (1 + len(more)) * screen_seeds)
            results |= trial.run(more, plan.seeds)
            arms += more
            screen = judge(plan, arms, plan.seeds, results)
        chosen, fresh, confirm = confirm_best(plan, arms, screen, trial.run, meter)
        results |= fresh
        best, written, winner, remaining = None, None, None, {}
        if chosen:
            ends = {c.arm: trial.watch(_arm(chosen, c.arm), typical_seed(c)) for c in confirm if c.verdict == "better"}
            remaining = {name: failing for name, (_, _, failing) in ends.items()}
            # A way that also removes the failure beats one that only moves the metric further.
            best = max(
                (c for c in confirm if c.arm in ends), key=lambda c: (not remaining[c.arm], rank(c)), default=None
            )
            if best is not None:
                winner, state, _ = ends[best.arm]
                written = write_rescued(
                    folder,
                    state,
                    origin=origin.collapsed,
                    arm=_arm(chosen, best.arm),
                    spec=winner,
                    metric=metric_of(fresh[best.arm, winner.seed], plan.metric),
                    comparison=best,
                )
        screen, confirm = (tuple(for_the_next(c, plan) for c in cs) for cs in (screen, confirm))
        meter.enter("done", total=meter.done)

        result = Rescue(
            folder=folder,
            collapsed=True,
            checkpoint=written,
            findings=findings,
            conclusion=nothing_confirmed(screen, confirm, failing, idle)
            if best is None
            else rescued(best, screen, confirm, failing, remaining, idle),
            origin=origin,
            plan=plan,
            screen=screen,
            confirm=confirm,
            failed=failed_runs(results, plan.metric),
            wall_s=time.monotonic() - start,
        )
        write_trial(result, results, again, beside={"rescue": story(result, control, winner)})
        return result


@dataclass(frozen=True, slots=True)
class _Trial:
    """Runs arms that start from checkpoints; `control` goes on as it is."""

    control: RunSpec
    folder: Path
    pool: Executor
    meter: Meter

    def spec(self, arm: Arm, seed: int) -> RunSpec:
        """The run of `arm` at `seed`."""
        return RunSpec(
            recipe=self.control.recipe,
            source=self.control.source,
            knobs=self.control.knobs,
            interventions=arm.interventions,
            seed=seed,
            horizon=self.control.horizon,
        )

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> Results:
        """Records of the control and `arms` on `seeds`."""
        everyone = (Arm(CONTROL, self.control.interventions), *arms)
        specs = {(arm.name, seed): self.spec(arm, seed) for arm in everyone for seed in seeds}
        records = run_specs(list(specs.values()), self.folder, self.pool, self.meter.tick)
        return {key: records[spec.address] | {"arm": key[0]} for key, spec in specs.items()}

    def leaves_something(self, origin: Origin, screen: Sequence[Comparison], plan: Plan) -> bool:
        """Whether no single way was good enough to confirm, or the best is short of what the last good state was."""
        if origin.good is None or not winners(screen, plan):
            return True
        specs = [dataclasses.replace(self.spec(Arm("", (origin.good,)), seed), horizon=0) for seed in plan.seeds]
        records = run_specs(specs, self.folder, self.pool)
        good = finite_mean([metric_of(record, plan.metric) for record in records.values()])
        short = good - finite_mean(max(screen, key=rank).treated)
        return (short if plan.higher_is_better else -short) > plan.margin

    def watch(self, arm: Arm, seed: int) -> tuple[RunSpec, Path, list[Finding]]:
        """The run of `arm` at `seed` once more, watched: its spec, its final state, and the failures it still has."""
        spec = self.spec(arm, seed)
        folder = self.folder / "watched" / spec.address
        self.meter.enter("watching what was confirmed")
        watch_runs({folder: spec}, self.pool, on_run=self.meter.tick, keep=True)
        with Reader(folder) as trace:
            # It starts out collapsed; what counts is whether it still is once it had half of its steps. In a short
            # run half would be too few rows for any rule to speak.
            begin = max(0, min(spec.horizon // 2, spec.horizon - LATE_ROWS))
            late = trace.rows(after=begin - 1)
            return spec, folder / FINAL, failures(detect(late))


def typical_seed(comparison: Comparison) -> int:
    """The seed whose treated run is in the middle: neither the luckiest nor one that failed."""
    finite = sorted((v, seed) for v, seed in zip(comparison.treated, comparison.seeds, strict=True) if math.isfinite(v))
    return finite[len(finite) // 2][1]


def _arm(arms: Sequence[Arm], name: str) -> Arm:
    return next(arm for arm in arms if arm.name == name)
