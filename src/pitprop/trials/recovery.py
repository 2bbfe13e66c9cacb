"""Rescue: from a collapsed checkpoint to one that trains again, by a controlled trial in two rounds.

    find the last good snapshot -> arms: roll back, remedies, both, new weights at the site -> screen against going on
    as it is -> confirm on fresh seeds -> watch the confirmed -> write the winner's state as a new checkpoint

Every arm starts from a checkpoint; seeds decide the order of the data and whatever else the recipe draws after its
build. Nothing is ever written to the original.
"""

import contextlib
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
from pitprop.trials.conclude import Conclusion, winners
from pitprop.trials.diagnosis import CONFIRM_ARMS
from pitprop.trials.execute import Results, make_folder, metric_of, run_specs, write_json
from pitprop.trials.executors import Executor
from pitprop.trials.executors.local import Local
from pitprop.trials.fork import kept_rng
from pitprop.trials.interventions import Intervention
from pitprop.trials.judge import inert, judge, rank, refuse_failed_control
from pitprop.trials.knobs import knobs_to_json, make_knobs
from pitprop.trials.load import load_recipe
from pitprop.trials.plan import CONTROL, Arm, Plan, content_hash
from pitprop.trials.progress import Meter, OnProgress
from pitprop.trials.recipe import Recipe
from pitprop.trials.rescue_arms import Origin, dissect, find_origin, rescue_arms
from pitprop.trials.rescue_text import nothing_confirmed, nothing_to_rescue, rescued
from pitprop.trials.rescued import write_rescued
from pitprop.trials.run import RunSpec, spec_source
from pitprop.trials.trial_file import failed_runs, timing, trial_content
from pitprop.trials.watched import FINAL, failures, watch_runs

LATE_ROWS = 60
"""Rows that a rule of patience needs to speak, with some to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """What a rescue found; the same is in the folder's `trial.json`."""

    folder: Path
    """Holds `plan.json`, `runs/`, `watched/`, `trial.json` and the new checkpoint."""
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
    """The best arms on fresh seeds (95 % together, by Holm's method)."""
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
    screen_seeds: int = 3,
    suspects: Sequence[Intervention] = (),
    workers: int | None = None,
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
        workers: Processes of the local executor; default one per core.
        executor: Where to run instead.
        folder: Where everything is written. Runs that it already holds are not run again, so the same call resumes.
        progress: Told how far it is.

    Raises:
        PitpropError: The checkpoint cannot be read without executing it or does not fit the recipe's model, or the
            control fails at every seed.
    """
    start = time.monotonic()
    if min(seeds, screen_seeds) < 2:
        raise PitpropError(f"A round of {min(seeds, screen_seeds)} seeds has no spread.", do="give at least 2 seeds.")
    recipe = load_recipe(reference)
    place, _, attribute = reference.rpartition(":")
    if place.endswith(".py"):
        reference = f"{Path(place).resolve()}:{attribute}"
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
    command = ["pitprop", "rescue", str(checkpoint), reference, *(["--run", str(run)] if run else [])]
    command += [part for name, value in (knobs or {}).items() for part in ("--knob", f"{name}={value}")]
    command += ["--seeds", str(seeds), "--out", str(folder)]
    meter = Meter(progress, total=1)

    with contextlib.ExitStack() as stack:
        pool = executor or stack.enter_context(Local(workers, log=folder / "workers.log"))
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
                conclusion=nothing_to_rescue(findings),
                origin=origin,
                wall_s=time.monotonic() - start,
            )
            _write(result, {}, command)
            return result

        arms = rescue_arms(origin, anatomy, findings, suspects)
        plan = _plan(recipe, control, arms, seeds, screen_seeds)
        write_json(folder / "plan.json", plan.to_dict() | {"hash": plan.hash})
        finalists = min(CONFIRM_ARMS, len(arms))
        rest = (1 + finalists) * seeds + finalists
        meter.enter(
            f"screening {len(arms)} ways on {screen_seeds} seeds",
            total=meter.done + (1 + len(arms)) * screen_seeds + rest,
        )
        trial = _Trial(control, folder, pool, meter)
        results = trial.run(arms, plan.seeds)
        refuse_failed_control(results, plan.seeds)
        idle = inert(arms, plan.seeds, plan.metric, results)
        screen = judge(plan, arms, plan.seeds, results, holm=False)
        chosen = [arm for name in winners(screen, plan) for arm in arms if arm.name == name]
        confirm: tuple[Comparison, ...] = ()
        best, written = None, None
        remaining: dict[str, list[Finding]] = {}
        if chosen:
            meter.enter(
                f"confirming {len(chosen)} on {seeds} fresh seeds",
                total=meter.done + (1 + len(chosen)) * seeds + len(chosen),
            )
            fresh = trial.run(chosen, plan.confirm_seeds)
            results |= fresh
            confirm = judge(plan, chosen, plan.confirm_seeds, fresh, holm=True)
            ends = {c.arm: trial.watch(_arm(chosen, c.arm), typical_seed(c)) for c in confirm if c.verdict == "better"}
            remaining = {name: left for name, (_, _, left) in ends.items()}
            # A way that also removes the failure beats one that only moves the metric further.
            best = max(
                (c for c in confirm if c.arm in ends), key=lambda c: (not remaining[c.arm], rank(c)), default=None
            )
            if best is not None:
                spec, state, _ = ends[best.arm]
                written = write_rescued(
                    folder,
                    state,
                    origin=origin.collapsed,
                    arm=_arm(chosen, best.arm),
                    spec=spec,
                    metric=metric_of(fresh[best.arm, spec.seed], plan.metric),
                    comparison=best,
                )
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
    _write(result, results, command)
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


def _write(result: Rescue, results: Results, command: Sequence[str]) -> None:
    content = trial_content(
        plan=result.plan,
        rounds={"screen": result.screen, "confirm": result.confirm},
        fork=None,  # every arm starts from a file
        conclusion=result.conclusion,
        failed=result.failed,
        timing=timing(results),
        command=command,
        wall_s=result.wall_s,
    )
    write_json(result.folder / "trial.json", content)


def _arm(arms: Sequence[Arm], name: str) -> Arm:
    return next(arm for arm in arms if arm.name == name)


def _plan(recipe: Recipe, control: RunSpec, arms: tuple[Arm, ...], seeds: int, screen_seeds: int) -> Plan:
    return Plan(
        recipe=control.recipe,
        source=control.source,
        knobs=control.knobs,
        arms=arms,
        seeds=tuple(range(screen_seeds)),
        metric=recipe.metric,
        higher_is_better=recipe.higher_is_better,
        margin=recipe.margin,
        horizon=control.horizon,
        confirm_seeds=tuple(range(screen_seeds, screen_seeds + seeds)),
        confirm_arms=CONFIRM_ARMS,
    )
