"""Diagnose: watch the control run, and where it collapses, find the cause by a controlled trial in two rounds.

    watch the control -> failure? -> prove the fork -> candidates -> screen on few seeds
    -> confirm the best on fresh seeds -> watch the confirmed -> conclude

Candidates come from the findings and the recipe's knobs. The plan is on disk before the first run of the trial starts.
"""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import Comparison, Finding
from pitprop.trials.candidates import USUAL, candidates
from pitprop.trials.command import command
from pitprop.trials.conclude import Conclusion, conclude, nothing_collapsed
from pitprop.trials.earlier import keep_earlier
from pitprop.trials.execute import Results, make_folder, run_arms, run_plan, spec_of
from pitprop.trials.executors import Executor, Task
from pitprop.trials.executors.place import open_executor
from pitprop.trials.guards import Guard, guard
from pitprop.trials.interventions import Intervention
from pitprop.trials.judge import inert, judge, refuse_failed_control
from pitprop.trials.knobs import alternatives, knobs_to_json, make_knobs
from pitprop.trials.load import load_recipe
from pitprop.trials.lock import held
from pitprop.trials.looks import ALPHA, for_the_next, numbered, share
from pitprop.trials.plan import CONTROL, Arm, Plan
from pitprop.trials.progress import Meter, OnProgress
from pitprop.trials.proof import ForkProof, proved
from pitprop.trials.reference import reference_to
from pitprop.trials.references import References, keep_references, known_references, references_of
from pitprop.trials.run import RunSpec, spec_source
from pitprop.trials.trial_file import failed_runs, write_trial
from pitprop.trials.two_rounds import SCREEN_SEEDS, confirm_best, plan_rounds, refuse_single_seeds, runs_of
from pitprop.trials.watched import failures, watch_control, watch_runs

WATCHED_SEEDS = 3
"""Seeds that are watched before nothing is said to collapse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What a diagnosis found; the same is in the folder's `trial.json`."""

    folder: Path
    """Holds `trace.sqlite`, `plan.json`, `fork.json`, `runs/`, `trial.json`."""
    collapsed: bool
    """Whether the control run has a failure."""
    findings: tuple[Finding, ...]
    """Findings of the control run, of every severity."""
    conclusion: Conclusion
    """The answer."""
    plan: Plan | None = None
    """The plan of the trial; None when nothing collapsed, as for the fields below."""
    fork: ForkProof | None = None
    """Proof that the recipe can be forked."""
    screen: tuple[Comparison, ...] = ()
    """Every arm against the control, on the screening seeds (95 % together, by Bonferroni's method)."""
    confirm: tuple[Comparison, ...] = ()
    """The best arms against the control, on fresh seeds (95 % together, by Bonferroni's method)."""
    guards: tuple[Guard, ...] = ()
    """What the confirmed arms do to the recipe's other metrics."""
    references: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    """Metrics of the recipe's reference solutions, as JSON numbers."""
    failed: tuple[Mapping[str, Any], ...] = ()
    """Runs that raised, hung, died, or ended without a finite metric: arm, seed, error."""
    wall_s: float = math.nan
    """Seconds that the diagnosis took."""


def diagnose(
    reference: str,
    *,
    knobs: Mapping[str, Any] | None = None,
    seeds: int = 5,
    screen_seeds: int = SCREEN_SEEDS,
    suspects: Sequence[Intervention] = (),
    on: str = "local",
    workers: int | None = None,
    timeout_s: float | None = None,
    executor: Executor | None = None,
    folder: str | Path,
    progress: OnProgress | None = None,
) -> Diagnosis:
    """Find out whether the recipe's run collapses, why, and what prevents it.

    Args:
        reference: `file.py:attr` or `package.module:attr` of a `Recipe`.
        knobs: Overrides of the control arm's knobs; text is read by the field's type.
        seeds: Fresh seeds of the confirming round.
        screen_seeds: Seeds of the screening round.
        suspects: Interventions to try beside the derived ones.
        on, workers, timeout_s: Where to run, how many at a time, and when a run hangs; see `open_executor`.
        executor: An executor that is open already, instead.
        folder: Where everything is written. Runs that it already holds are not run again, so the same call resumes.
        progress: Told how far it is.

    Raises:
        PitpropError: The recipe cannot be loaded, its control run raises, or it cannot be forked exactly.
    """
    start = time.monotonic()
    refuse_single_seeds(seeds, screen_seeds)
    recipe = load_recipe(reference)
    reference = reference_to(reference)
    again = command(
        "diagnose",
        reference,
        knobs=knobs,
        suspects=suspects,
        options={"--seeds": seeds, "--screen-seeds": screen_seeds, "--out": folder},
    )
    values = make_knobs(recipe, knobs)
    folder = make_folder(folder)
    control = RunSpec(
        recipe=reference, source=spec_source(reference), knobs=knobs_to_json(values), seed=0, horizon=recipe.steps
    )
    guess = len(alternatives(recipe, values)) + len(suspects) + len(USUAL)
    meter = Meter(progress, total=2 + runs_of(guess, screen_seeds, seeds))

    with contextlib.ExitStack() as stack:
        stack.enter_context(held(folder))
        pool = executor or stack.enter_context(open_executor(on, workers, folder=folder, timeout_s=timeout_s))
        meter.workers = pool.workers
        meter.enter("watching the control run")
        references = _references(control, folder, pool) if recipe.references else {}
        control, watched, watched_seeds = watch_control(
            control,
            range(1, WATCHED_SEEDS),
            folder,
            pool,
            on_more=lambda: meter.enter("watching it on more seeds"),
        )
        meter.tick()
        findings = tuple(watched["findings"])
        failing = failures(findings)
        if not failing:
            curve = watched["metrics"][recipe.metric]
            answer = nothing_collapsed(findings, recipe.metric, float(curve[0][1]), float(curve[-1][1]), watched_seeds)
            diagnosis = Diagnosis(
                folder=folder,
                collapsed=False,
                findings=findings,
                conclusion=answer,
                references=references,
                wall_s=time.monotonic() - start,
            )
            _write(diagnosis, {}, again)
            return diagnosis

        arms = candidates(findings, alternatives(recipe, values), watched["modules"], suspects)
        at = fork_step(failing[0].onset, watched["every"])
        plan = plan_rounds(recipe, control, arms, seeds=seeds, screen_seeds=screen_seeds, fork_step=at)
        plan = numbered(plan, folder, first=0)
        keep_earlier(folder, plan.to_dict(), copy_trace=True)

        meter.enter("proving that the fork is exact")
        fork = proved(spec_of(plan, Arm(CONTROL), control.seed), folder, pool)
        meter.tick()

        meter.enter(
            f"screening {len(arms)} changes on {screen_seeds} seeds",
            total=meter.done + runs_of(len(arms), screen_seeds, seeds),
        )
        results = run_plan(plan, folder, executor=pool, on_run=meter.tick)
        refuse_failed_control(results, plan.seeds)
        screen = judge(plan, arms, plan.seeds, results)
        chosen, fresh, confirm = confirm_best(
            plan, arms, screen, lambda chosen, on: run_arms(plan, chosen, on, folder, pool, meter.tick), meter
        )
        results |= fresh
        better = [c.arm for c in confirm if c.verdict == "better"]
        guards = guard(better, plan.guards, plan.confirm_seeds, fresh, alpha=ALPHA * share(plan.look))
        screen, confirm = (tuple(for_the_next(c, plan) for c in cs) for cs in (screen, confirm))
        confirmed = [arm for arm in chosen if arm.name in better]
        remaining = _watch_confirmed(confirmed, plan, control.seed, folder, pool, meter)
        meter.enter("done", total=meter.done)

        diagnosis = Diagnosis(
            folder=folder,
            collapsed=True,
            findings=findings,
            conclusion=conclude(
                plan,
                screen,
                confirm,
                findings,
                failing,
                remaining,
                inert=inert(arms, plan.seeds, plan.metric, results),
                guards=guards,
                diverged=min(
                    (
                        r["diverged"]
                        for (arm, _), r in fresh.items()
                        if arm == CONTROL and r.get("diverged") is not None
                    ),
                    default=None,
                ),
            ),
            plan=plan,
            fork=fork,
            screen=screen,
            confirm=confirm,
            guards=guards,
            references=references,
            failed=failed_runs(results, recipe.metric),
            wall_s=time.monotonic() - start,
        )
        _write(diagnosis, results, again)
        return diagnosis


def fork_step(onset: int, every: int) -> int:
    """Where the arms part: a measured step at or before half of the way to the onset.

    The onset is where the symptom begins; its cause acts earlier, and other seeds may collapse earlier.
    """
    return onset // 2 // every * every


def _references(control: RunSpec, folder: Path, pool: Executor) -> References:
    """Metrics of the reference solutions: known, or computed in a worker."""
    known = known_references(folder, control)
    if known is not None:
        return known
    ((_, outcome),) = pool.run([Task(function=references_of, arguments=(control.recipe,))])
    if outcome.error is not None:
        raise PitpropError(f"The recipe's references failed: {outcome.error}")
    keep_references(folder, control, outcome.value)
    return outcome.value


def _write(diagnosis: Diagnosis, results: Results, again: Sequence[str]) -> None:
    beside = {"references": diagnosis.references}
    write_trial(diagnosis, results, again, fork=diagnosis.fork, guards=diagnosis.guards, beside=beside)


def _watch_confirmed(
    confirmed: Sequence[Arm], plan: Plan, seed: int, folder: Path, pool: Executor, meter: Meter
) -> dict[str, list[Finding]]:
    """Failure findings of a watched run of each confirmed arm, on the control's watched seed."""
    meter.enter("watching what was confirmed", total=meter.done + len(confirmed))
    specs = {arm.name: spec_of(plan, arm, seed) for arm in confirmed}
    watched = watch_runs({folder / "watched" / spec.address: spec for spec in specs.values()}, pool, on_run=meter.tick)
    return {name: failures(run["findings"]) for name, run in zip(specs, watched, strict=True)}
