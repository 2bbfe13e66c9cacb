"""A watched run: the control run of a diagnosis, or an arm's, with its trace on disk and its findings."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import RUN, Finding
from pitprop.report.watched_file import NAME, finding
from pitprop.trace import Reader
from pitprop.trials.below_reference import below_reference
from pitprop.trials.earlier import set_aside
from pitprop.trials.execute import RUN_IT, read_json, write_json
from pitprop.trials.executors import Executor, Task
from pitprop.trials.interventions._targets import is_jax, model_of, optimizers_of
from pitprop.trials.interventions.load_state import other_states
from pitprop.trials.preflight import found_before
from pitprop.trials.progress import OnRun
from pitprop.trials.run import RunSpec, Steps, build, cached_recipe, check_acted, evaluate, number, to_json_number
from pitprop.trials.unlearned import unlearned
from pitprop.watch import watch
from pitprop.watch.feeds import ARGUMENTS
from pitprop.watch.state import write_checkpoint

MEASUREMENTS = 250
"""How many steps of a run are measured, if it has so many: more rows than any rule waits for."""

EVALUATIONS = 10
"""How often the metric is evaluated on the way."""

FINAL = "final"
"""Folder with the state at the end of a watched run that was asked to keep it."""

LOGGED = ("loss", *sorted(ARGUMENTS))
"""What a step may return besides scalars: every array that `watch.log` measures."""


def watched_run(spec: RunSpec, folder: str, keep: bool = False) -> dict[str, Any]:
    """Train from step 0 under watch, with the interventions of `spec` applied at its fork step.

    The trace goes to `folder`. Arrays that `step` returns and `watch.log` takes are logged (not in jax, where they are
    measured inside of the step or not at all), and so are its scalars;
    the metrics are logged as `evaluate_<name>` at the start, on the way and at the end. With `keep` the state at the
    end is written to `folder/final`, as a checkpoint. An arm may take away all that is trained (a fixed schedule in
    place of a learned one): then there is nothing to watch, no trace, and its metrics alone are read.

    Returns:
        `findings`, in jax with what the checks say before the first step; `metrics` with the values at the start, on
        the way and at the end as `[step, value]` pairs; `every`, the steps between two measurements; and `modules`, the
        paths of a torch model's modules.
    """
    recipe = cached_recipe(spec.recipe)
    training, late = build(recipe, spec.knobs, spec.seed, spec.interventions)
    # A step of jax can be asked by itself, and a run of it shows less than one of torch modules.
    before = found_before(training) if is_jax(training) else []
    length = spec.fork_step + spec.horizon
    curve: dict[str, list[list[float | str]]] = {}
    applied = []

    def note(step: int) -> dict[str, float]:
        metrics, _ = evaluate(training, recipe)
        for name, value in metrics.items():
            curve.setdefault(name, []).append([step, to_json_number(value)])
        return {f"evaluate_{name}": value for name, value in metrics.items()}

    every = max(1, length // MEASUREMENTS)
    watching, take = _watch(
        training,
        run=folder,
        every=every,
        budget=None,
        seed=spec.seed,
        config=dict(spec.knobs),
        exist="replace",
        quiet=True,
    )
    steps = Steps(training)
    with watching or contextlib.nullcontext():
        measured = note(0)
        for step in range(length):
            if step == spec.fork_step:
                applied = [intervention.apply(training) for intervention in late]
            (out,) = steps.take(1)
            scalars = {name: number(value, name, "step") for name, value in out.items() if name not in LOGGED}
            take(**{name: out[name] for name in LOGGED if name in out}, **scalars, **measured)
            # The state after this step is the state before the next one, whose row takes the metrics.
            measured = note(step + 1) if step and step % max(1, length // EVALUATIONS) == 0 else {}
        note(length)
    check_acted(late, applied)
    if keep:
        shutil.rmtree(Path(folder) / FINAL, ignore_errors=True)
        optimizers = list(optimizers_of(training).values())
        write_checkpoint(Path(folder) / FINAL, model_of(training), optimizers, other_states(training))
    modules = [] if is_jax(training) else [path for path, _ in model_of(training).named_modules() if path]
    findings = [*before, *below_reference(recipe, spec.recipe, curve[recipe.metric])]
    if watching is not None:
        with Reader(folder) as trace:
            findings = [*watching.findings, *unlearned(list(trace.rows()), watching.findings), *findings]
    return {"findings": findings, "metrics": curve, "every": every, "modules": modules}


def _watch(training: Any, **options: Any) -> tuple[Any, Callable[..., None]]:
    """The watch on `training`, None where nothing in it is trained, and what takes the numbers of each step."""
    if not is_jax(training) and not any(p.requires_grad for p in model_of(training).parameters()):
        return None, lambda **_: None
    if not is_jax(training):
        watching = watch(model_of(training), list(optimizers_of(training).values()), **options)
        return watching, watching.log
    from pitprop.watch.jax import session
    from pitprop.watch.transformation import watch as watch_updates

    training.use(watch_updates(training.tx, histograms=True))
    in_jax = session(**options)

    def take(**given: Any) -> None:
        numbers = {name: value for name, value in given.items() if name not in ARGUMENTS}
        in_jax.take(training.tree["opt_state"], **numbers)

    return in_jax, take


def failures(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that say that a run is not doing its job, earliest first; of equals, the whole run's."""
    return sorted(
        (f for f in findings if f.severity == "failure"), key=lambda f: (f.onset, f.site != RUN, f.rule, f.site)
    )


def watch_runs(
    specs: Mapping[Path, RunSpec],
    executor: Executor,
    *,
    keep: bool = False,
    on_run: OnRun | None = None,
) -> list[dict[str, Any]]:
    """Watch several runs, each into its folder; one that is there already is read instead.

    Args:
        specs: Folder -> run.
        executor: Where to run.
        keep: Whether each run keeps its state at the end, in `final`.
        on_run: Called after each watched run.

    Returns:
        What `watched_run` returned for each run.

    Raises:
        PitpropError: A run failed.
    """
    runs = {folder: _known(folder, spec) for folder, spec in specs.items()}
    missing = [folder for folder, run in runs.items() if run is None]
    tasks = [Task(function=watched_run, arguments=(specs[folder], str(folder), keep)) for folder in missing]
    for index, outcome in executor.run(tasks):
        if outcome.error is not None:
            raise PitpropError(
                f"A run of `{next(iter(specs.values())).recipe}` failed: {outcome.error}",
                do=RUN_IT if "\nDo: " not in outcome.error else "",
            )
        folder = missing[index]
        runs[folder] = outcome.value
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / NAME, _to_json(outcome.value) | {"address": specs[folder].address})
    if on_run is not None:
        for folder in runs:
            on_run(known=folder not in missing)
    return [run for run in runs.values() if run is not None]


def watch_control(
    control: RunSpec, more: Sequence[int], folder: Path, executor: Executor, on_more: Callable[[], None]
) -> tuple[RunSpec, dict[str, Any], int]:
    """Watch the control run, and where it shows no failure, on `more` seeds too, before that is believed.

    Args:
        control: The run on the first seed.
        more: Further seeds.
        folder: Gets the trace of the run that is returned; traces of seeds without a failure go below it.
        executor: Where to run.
        on_more: Called before the further seeds are run.

    Returns:
        The run that decides (the first with a failure, else the first), what `watched_run` returned for it, and on how
        many seeds runs were watched.
    """
    specs = [control, *(dataclasses.replace(control, seed=seed) for seed in more)]
    # A resumed diagnosis begins with the run that decided.
    first = next((spec for spec in specs if _known(folder, spec) is not None), None)
    if first is None:
        set_aside(folder)
        first = control
    (run,) = watch_runs({folder: first}, executor)
    if failures(run["findings"]):
        return first, run, 1
    on_more()
    others = [spec for spec in specs if spec != first]
    runs = watch_runs({folder / "watched" / spec.address: spec for spec in others}, executor)
    for spec, other in zip(others, runs, strict=True):
        if failures(other["findings"]):
            (run,) = watch_runs({folder: spec}, executor)
            return spec, run, len(specs)
    return first, run, len(specs)


def _known(folder: Path, spec: RunSpec) -> dict[str, Any] | None:
    run = read_json(folder / NAME)
    if run is None or run.pop("address") != spec.address or not (folder / "trace.sqlite").exists():
        return None
    return run | {"findings": [finding(f) for f in run["findings"]]}


def _to_json(run: dict[str, Any]) -> dict[str, Any]:
    findings = [
        asdict(f) | {"evidence": {k: to_json_number(v) for k, v in f.evidence.items()}} for f in run["findings"]
    ]
    return run | {"findings": findings}
