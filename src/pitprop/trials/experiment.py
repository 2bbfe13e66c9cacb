"""A trial of one round: arms against the control on the same seeds and batches, judged as it was planned."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pitprop._errors import PitpropError, nearest
from pitprop.records import Comparison
from pitprop.trials.candidates import name_of
from pitprop.trials.confidence_sequence import FIRST
from pitprop.trials.designs import Factorial, effects
from pitprop.trials.earlier import keep_earlier
from pitprop.trials.early_stop import run_staged
from pitprop.trials.execute import RUN_IT, make_folder, metric_of, spec_of, write_json
from pitprop.trials.executors import Executor, Task
from pitprop.trials.executors.place import open_executor
from pitprop.trials.fork import kept_rng
from pitprop.trials.guards import guard
from pitprop.trials.interventions import Intervention, Knob, Stage
from pitprop.trials.judge import inert, inert_changes, judge, refuse_failed_control
from pitprop.trials.knobs import knobs_to_json, make_knobs
from pitprop.trials.load import load_recipe
from pitprop.trials.lock import held
from pitprop.trials.looks import ALPHA, for_the_next, numbered, share
from pitprop.trials.plan import CONTROL, Arm, Plan
from pitprop.trials.progress import Meter, OnProgress
from pitprop.trials.proof import proved
from pitprop.trials.recipe import Recipe, read_guard
from pitprop.trials.reference import reference_to
from pitprop.trials.result import Trial
from pitprop.trials.run import RunSpec, Steps, build, cached_recipe, evaluate, spec_source
from pitprop.trials.summary import summarise
from pitprop.trials.trial_file import failed_runs, timing

Changes = Arm | Intervention | Sequence[Intervention]
"""What `trial` takes as an arm: an arm, one change, or several changes made together."""


def trial(
    recipe: Recipe | str,
    arms: Factorial | Sequence[Changes],
    *,
    seeds: int | Sequence[int] = 8,
    metric: str | None = None,
    higher_is_better: bool | None = None,
    margin: float | None = None,
    horizon: int | None = None,
    fork_step: int = 0,
    guards: Sequence[str] = (),
    early_stop: bool = True,
    knobs: Mapping[str, Any] | None = None,
    on: str = "local",
    workers: int | None = None,
    timeout_s: float | None = None,
    executor: Executor | None = None,
    folder: str | Path | None = None,
    progress: OnProgress | None = None,
    command: Sequence[str] = (),
) -> Trial:
    """Change one thing at a time, or several in a design, and say what each change does.

    Args:
        recipe: A `Recipe` bound to a name in a Python file, or `file.py:attr`, or `package.module:attr`.
        arms: Interventions (several in a sequence are made together), `Arm`s, ladders (`designs.ladder`), or a
            `designs.factorial`.
        seeds: How many, from 0 on, or which; the control and every arm run on all of them.
        metric: Key of `evaluate()` that decides; default is the recipe's.
        higher_is_better: Direction in which it improves; to be said for a metric that is not the recipe's.
        margin: Difference that is too small to matter; default is the recipe's, for another metric 0.
        horizon: Steps of each run after the fork; default is what the recipe's length leaves.
        fork_step: Step at which the arms part. The fork is proved exact first.
        guards: Further keys of `evaluate()` to report, as for a recipe; the recipe's are reported anyway.
        early_stop: Stop an arm once it is clearly worse, from the fourth seed on. A factorial needs all of its runs,
            and stops none.
        knobs: Overrides of the control arm's knobs; text is read by the field's type.
        on, workers, timeout_s: Where to run, how many at a time, and when a run hangs; see `open_executor`.
        executor: An executor that is open already, instead.
        folder: Where everything is written; default `runs/NAME-trial`, after the recipe's file. Runs that it already
            holds are not run again, so the same call resumes, and one with more seeds or arms adds them.
        progress: Told how far it is.
        command: Command line to name in the report.

    Raises:
        PitpropError: The recipe cannot be loaded, found by another process or forked; an arm cannot be applied (a path
            that matches nothing, an unknown knob); no such metric; or the control fails at every seed.
    """
    start = time.monotonic()
    reference = reference_to(recipe)
    loaded = load_recipe(reference)
    values = make_knobs(loaded, knobs)
    design = None
    if isinstance(arms, Factorial):
        design = dataclasses.replace(arms, changes=tuple(_read(change, loaded, values) for change in arms.changes))
        arms = design.arms
    folder = Path(folder or Path("runs") / f"{Path(reference.rpartition(':')[0]).stem}-trial")
    plan = Plan(
        recipe=reference,
        source=spec_source(reference),
        knobs=knobs_to_json(values),
        arms=tuple(_arm(arm, loaded, values) for arm in arms),
        seeds=_seeds(seeds),
        horizon=_horizon(loaded, horizon, fork_step),
        fork_step=fork_step,
        guards=_guards(loaded, guards, metric or loaded.metric),
        early_stop=early_stop and design is None and len(_seeds(seeds)) > FIRST,
        **_judged(loaded, values, metric, higher_is_better, margin),
    )
    _refuse_never_let_in(plan)
    if not plan.arms:
        raise PitpropError("The trial has no arm.", do="give at least one intervention.")
    folder = make_folder(folder)
    meter = Meter(progress, total=(1 + len(plan.arms)) * len(plan.seeds))
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(folder))
        plan = numbered(plan, folder)
        pool = executor or stack.enter_context(open_executor(on, workers, folder=folder, timeout_s=timeout_s))
        meter.workers = pool.workers
        meter.enter("trying out each change")
        _rehearse(plan, pool)
        fork = None
        if fork_step:
            meter.enter("proving that the fork is exact")
            fork = proved(spec_of(plan, Arm(CONTROL), plan.seeds[0]), folder, pool)
        keep_earlier(folder, plan.to_dict())
        meter.enter(f"running {len(plan.arms)} arms and the control on {len(plan.seeds)} seeds")
        results, stopped = run_staged(plan, folder, pool, meter.tick)
        meter.enter("judging", total=meter.done)
        refuse_failed_control(results, plan.seeds)
        idle = inert(plan.arms, plan.seeds, plan.metric, results)
        comparisons = judge(plan, plan.arms, plan.seeds, results, stopped)
        factors: tuple[Comparison, ...] = ()
        if design is not None:
            never = inert_changes(design, plan.seeds, plan.metric, results)
            outcomes = [[metric_of(results[run, seed], plan.metric) for seed in plan.seeds] for run in design.runs]
            factors = effects(
                design,
                np.array(outcomes),
                seeds=plan.seeds,
                metric=plan.metric,
                higher_is_better=plan.higher_is_better,
                margin=plan.margin,
                horizon=plan.horizon,
                plan=plan.hash,
                confidence=1 - ALPHA * share(plan.look),
                inert=never,
            )
            idle = tuple(dict.fromkeys((*never, *idle)))
        guarded = guard(
            [arm.name for arm in plan.arms if arm.name not in idle],
            plan.guards,
            plan.seeds,
            results,
            stopped,
            ALPHA * share(plan.look),
        )
        comparisons, factors = (tuple(for_the_next(c, plan) for c in cs) for cs in (comparisons, factors))
        found = Trial(
            folder=folder,
            plan=plan,
            comparisons=comparisons,
            effects=factors,
            guards=guarded,
            conclusion=summarise(plan, comparisons, factors, design, guarded, idle),
            fork=fork,
            failed=failed_runs(results, plan.metric),
            timing=timing(results),
            command=tuple(command),
            wall_s=time.monotonic() - start,
        )
        write_json(folder / "trial.json", found.to_dict())
        return found


def rehearse(spec: RunSpec, seeds: Sequence[int]) -> tuple[str | None, list[str]]:
    """Build the run of `spec`, apply its changes and make one step, so that a change that can't act objects now.

    Returns:
        What a change objected to, if any; and the metrics that the recipe evaluates.
    """
    recipe = cached_recipe(spec.recipe)
    try:
        training, late = build(recipe, spec.knobs, spec.seed, spec.interventions)
        for change in spec.interventions:
            for seed in seeds if hasattr(change, "bind") else ():
                change.bind(lambda _: None, seed)  # type: ignore[attr-defined]
        metrics, _ = evaluate(training, recipe)
        for change in late:
            change.apply(training)
        for _ in Steps(training).take(1):
            pass
    except PitpropError as error:
        return str(error), []
    return None, list(metrics)


def _rehearse(plan: Plan, pool: Executor) -> None:
    """Refuse a path that matches nothing, or a metric that is not there, before the first run."""
    changes = dict.fromkeys(change for arm in plan.arms for change in arm.interventions)
    head = {"recipe": plan.recipe, "source": plan.source, "knobs": plan.knobs, "seed": plan.seeds[0], "horizon": 0}
    alone = [(), *((change,) for change in changes)]
    tasks = [Task(function=rehearse, arguments=(RunSpec(**head, interventions=tried), plan.seeds)) for tried in alone]
    for index, outcome in pool.run(tasks):
        if outcome.error is not None:
            continue  # what else goes wrong here goes wrong in the runs as well, and is reported with them
        objection, metrics = outcome.value
        if objection is not None:
            what = alone[index][0].describe() if index else "the control"
            raise PitpropError(f"This cannot be run: {what}.", means=objection)
        for needed in (plan.metric, *(read_guard(text)[0] for text in plan.guards)):
            if needed not in metrics:
                raise PitpropError(f"`evaluate()` returns no `{needed}`, only: {', '.join(metrics)}.")


def _arm(given: Changes, recipe: Recipe, values: Any) -> Arm:
    changes = given.interventions if isinstance(given, Arm) else given
    changes = tuple(changes) if isinstance(changes, Sequence) else (changes,)
    read = tuple(_read(change, recipe, values) for change in changes)
    return Arm(given.name if isinstance(given, Arm) else " + ".join(map(name_of, read)), read)


def _read(change: Intervention, recipe: Recipe, values: Any) -> Intervention:
    """`change` itself; of a knob, with its value read by the field's type."""
    if not hasattr(change, "describe"):
        raise PitpropError(
            f"{change!r:.80} is no intervention.", do="give interventions, such as `Scale('cross_attn', 0.1)`."
        )
    if not isinstance(change, Knob):
        return change
    value = getattr(make_knobs(recipe, {change.name: change.value}), change.name)
    if value == getattr(values, change.name):
        raise PitpropError(
            f"The knob `{change.name}` is {value!r} already.",
            means="The arm would be another control.",
            do="give another value, or change the control's with `knobs`.",
        )
    return Knob(change.name, value)


def _refuse_never_let_in(plan: Plan) -> None:
    """A branch that is let in after the last step is only an ablation, by a name that says otherwise."""
    for change in (change for arm in plan.arms for change in arm.interventions):
        if isinstance(change, Stage) and change.start >= plan.horizon:
            raise PitpropError(
                f"`{change.path}` would never be let in: it starts at step {change.start} of {plan.horizon}.",
                means="The arm would be an ablation.",
                do=f"give a start under {plan.horizon}, a longer horizon, or ablate it.",
            )


def _guards(recipe: Recipe, guards: Sequence[str], metric: str) -> tuple[str, ...]:
    """The recipe's guards and the given ones, which come first in what they say, without the metric that decides."""
    named = {read_guard(text)[0]: text for text in (*recipe.guards, *guards)}
    return tuple(text for name, text in named.items() if name != metric)


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    given = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if len(given) < 2 or len(set(given)) < len(given):
        raise PitpropError(f"The seeds are {seeds}.", do="give at least 2, each once.")
    return given


def _horizon(recipe: Recipe, horizon: int | None, fork_step: int) -> int:
    steps = recipe.steps - fork_step if horizon is None else horizon
    if steps < 1 or fork_step < 0:
        raise PitpropError(
            f"A fork at step {fork_step} with {steps} steps after it.",
            do=f"fork within the recipe's {recipe.steps} steps, or give a horizon.",
        )
    return steps


def _judged(
    recipe: Recipe, values: Any, metric: str | None, higher: bool | None, margin: float | None
) -> dict[str, Any]:
    """Metric, direction and margin."""
    own = metric in (None, recipe.metric)
    if not own and higher is None:
        _refuse_unknown(recipe, values, str(metric))
        raise PitpropError(
            f"The recipe does not say in which direction `{metric}` improves.",
            do="give `higher_is_better` (on the command line `--direction higher` or `lower`).",
        )
    return {
        "metric": metric or recipe.metric,
        "higher_is_better": recipe.higher_is_better if higher is None else higher,
        "margin": margin if margin is not None else recipe.margin if own else 0.0,
    }


def _refuse_unknown(recipe: Recipe, values: Any, metric: str) -> None:
    """Refuse a metric that `evaluate()` does not return: a typo has no direction that one could be asked for."""
    try:
        with kept_rng():
            known, _ = evaluate(build(recipe, knobs_to_json(values), 0, ())[0], recipe)
    except Exception as error:
        raise PitpropError(f"The recipe raised {type(error).__name__}: {error}.", do=RUN_IT) from error
    if metric not in known:
        raise PitpropError(f"`evaluate()` returns no `{metric}`: {nearest(metric, known)}")
