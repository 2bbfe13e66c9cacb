"""Bisect: from two configurations of a recipe to the changes that are guilty, by runs on an executor.

Two revisions go to `drive_revisions`.

    end points at 8 seeds -> cut, written down and hashed -> search -> confirm on fresh seeds -> bisection.json

A run is addressed by what it is, so a bisection that was interrupted goes on where it was, and the same call with a
larger budget searches further.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.bisection.answer import Bisection, state
from pitprop.trials.bisection.changes import Changes, Configuration, knob_changes, module_changes
from pitprop.trials.bisection.drive_revisions import bisect_revisions, named_revisions
from pitprop.trials.bisection.endpoints import LOOKS
from pitprop.trials.bisection.first_bad import FirstBad
from pitprop.trials.bisection.oracle import Oracle, Step
from pitprop.trials.bisection.rounds import CONFIRM_ARMS, CONFIRM_SEEDS, Runner, confirm_sets, run_ends
from pitprop.trials.bisection.search import search
from pitprop.trials.bisection.sequential import SequentialTest
from pitprop.trials.earlier import keep_earlier
from pitprop.trials.execute import make_folder, write_json
from pitprop.trials.executors import Executor
from pitprop.trials.executors.place import open_executor
from pitprop.trials.load import load_recipe
from pitprop.trials.lock import held
from pitprop.trials.plan import content_hash
from pitprop.trials.progress import Meter, OnProgress
from pitprop.trials.run import RunSpec, spec_source, to_json_number

POOLS = 2
"""Revisions whose workers are kept: a comparison goes to and fro between two, and a worker takes seconds to start."""

BUDGET = 300
"""Runs that a bisection may take, unless it is told otherwise."""


def bisect(
    reference: str,
    good: Configuration = None,
    bad: Configuration = None,
    *,
    by_module: Sequence[str] = (),
    metric: str | None = None,
    budget: int = BUDGET,
    on: str = "local",
    workers: int | None = None,
    timeout_s: float | None = None,
    executor: Executor | None = None,
    folder: str | Path,
    progress: OnProgress | None = None,
) -> Bisection | FirstBad:
    """Find what brings a collapse between `good` and `bad`.

    Between two configurations: the minimal sets of changes that bring it, and those that cure it (a `Bisection`).
    Between two revisions of the recipe's git repository: the first bad commit (a `FirstBad`).

    Args:
        reference: `file.py:attr` or `package.module:attr` of a `Recipe`.
        good, bad: Knob values, or TOML files with them; a knob that is left out has its default. Or two revisions: text
            is one unless it is the name of a file that exists and ends in `.toml`.
        by_module: Patterns of module paths, instead of `good`: good is bad's model with all of these modules ablated,
            and each change is to leave one of them active.
        metric: Key of `evaluate()`; default is the recipe's. Another one improves in the direction from bad to good,
            and has no margin.
        budget: Runs in all, the end points' and the confirming ones included.
        on, workers, timeout_s: Where to run, how many at a time, and when a run hangs; see `open_executor`.
        executor: An executor that is open already, instead; not for revisions, which need fresh processes each.
        folder: Where everything is written; a second call goes on there.
        progress: Told how far it is.

    Raises:
        PitpropError: The recipe or a configuration cannot be read, nothing differs, the budget does not hold the end
            points, or their runs fail; for revisions see also `bisect_revisions`.
    """
    start = time.monotonic()
    if budget < 2 * LOOKS[0]:
        raise PitpropError(
            f"A budget of {budget} runs does not hold the end points.",
            means=f"Good and bad run at {LOOKS[0]} seeds each before anything is searched.",
            do=f"give at least {2 * LOOKS[0]}; {BUDGET} is usual.",
        )
    again = _where(folder, on, workers, timeout_s)
    revisions = named_revisions(good, bad)
    if revisions and executor is not None:
        raise PitpropError(
            "An open executor was given for revisions.",
            means="Each revision needs processes that have imported nothing of another one.",
            do="leave it out; `on` and `workers` say where to run.",
        )
    if revisions and not by_module:
        out = Path(folder).resolve()
        return bisect_revisions(
            reference,
            *revisions,
            metric=metric,
            budget=budget,
            open_pool=lambda limit: open_executor(on, workers, folder=out, timeout_s=limit),
            pools=POOLS if on == "local" else 1,  # on a cluster a second one would wait for the CPUs of the first
            timeout_s=timeout_s,
            folder=out,
            again=again,
            progress=progress,
        )
    if by_module and good is not None:
        raise PitpropError(
            "`good` and `by_module` were given together.",
            means="By module, good is the model of bad with the modules ablated.",
            do="leave out `good`; `bad` may still set knobs.",
        )
    recipe = load_recipe(reference)
    place, _, attribute = reference.rpartition(":")
    if place.endswith(".py"):
        reference = f"{Path(place).resolve()}:{attribute}"
    base = RunSpec(recipe=reference, source=spec_source(reference), seed=0, horizon=recipe.steps)
    changes = None if by_module else knob_changes(recipe, base, good, bad)
    folder = make_folder(folder)

    with held(folder), contextlib.ExitStack() as stack:
        pool = executor or stack.enter_context(open_executor(on, workers, folder=folder, timeout_s=timeout_s))
        changes = changes or module_changes(recipe, base, by_module, bad, pool)
        plan = _plan(changes, metric or recipe.metric, budget)
        keep_earlier(folder, plan)
        write_json(folder / "plan.json", plan)
        meter = Meter(progress, total=budget)
        meter.workers = pool.workers
        runner = Runner(changes, metric or recipe.metric, folder, pool, meter.tick)

        meter.enter(f"running good and bad, {len(changes.values)} changes apart")
        ends, cut, found = run_ends(runner, recipe, budget)
        plan |= {"higher_is_better": ends.higher_is_better, "cut": to_json_number(cut.value) if cut else None}
        plan["hash"] = content_hash(plan)
        write_json(folder / "plan.json", plan)
        steps: Sequence[Step] = ()
        confirm: tuple[Comparison, ...] = ()
        if cut is not None:
            meter.enter("searching the changes")
            kept = min(CONFIRM_ARMS * len(CONFIRM_SEEDS), (budget - runner.used) // 4)
            # What the oracle will ask for first, the end points at the first seeds, was run already.
            spent = runner.used - 2 * LOOKS[0]
            oracle = Oracle(runner.collapses(cut), list(changes.values), budget=budget - kept - spent)
            found, steps = search(oracle), oracle.steps
            meter.enter("confirming on fresh seeds")
            confirm, left = confirm_sets(runner, found, ends, plan["hash"], budget)
            found = dataclasses.replace(found, open=found.open + left)
        meter.enter("done", total=meter.done)

        statement, advice = state(found, ends, confirm)
        bisection = Bisection(
            folder=folder,
            command=_command(reference, good, bad, by_module, metric, budget, again),
            changes={name: f"{old} -> {new}" for name, (old, new) in changes.values.items()},
            ends=ends,
            cut=cut.value if cut else math.nan,
            found=found,
            steps=tuple(steps),
            confirm=confirm,
            failed=runner.failed(),
            budget=budget,
            runs=runner.used,
            plan=plan["hash"],
            statement=statement,
            next=advice,
            wall_s=time.monotonic() - start,
        )
        write_json(folder / "bisection.json", bisection.to_dict())
        return bisection


def _plan(changes: Changes, metric: str, budget: int) -> dict[str, Any]:
    """Everything that is fixed before the first run; the cut follows before the first subset."""
    base = changes.base
    return {
        "recipe": base.recipe,
        "source": base.source,
        "knobs": dict(base.knobs),
        "changes": {name: list(pair) for name, pair in changes.values.items()},
        "metric": metric,
        "horizon": base.horizon,
        "budget": budget,
        "test": dataclasses.asdict(SequentialTest()),
        "confirm_seeds": list(CONFIRM_SEEDS),
    }


def _command(
    reference: str,
    good: Configuration,
    bad: Configuration,
    by_module: Sequence[str],
    metric: str | None,
    budget: int,
    again: Sequence[str],
) -> tuple[str, ...]:
    """The command line that does the same; empty where a configuration was given as a mapping, which has none."""
    if isinstance(good, Mapping) or isinstance(bad, Mapping):
        return ()
    files = {"--good": good, "--bad": bad}
    options = {name: file and Path(file).resolve() for name, file in files.items()}
    options |= {"--metric": metric, "--budget": budget}
    given = [str(part) for name, value in options.items() if value is not None for part in (name, value)]
    patterns = [part for pattern in by_module for part in ("--by-module", pattern)]
    return ("pitprop", "bisect", reference, *given, *again, *patterns)


def _where(folder: str | Path, on: str, workers: int | None, timeout_s: float | None) -> tuple[str, ...]:
    """Options for the folder, without which a second call would start afresh elsewhere, and for what runs there."""
    given = {"--out": Path(folder).resolve(), "--on": None if on == "local" else on}
    given |= {"--workers": workers, "--timeout-s": timeout_s}
    return tuple(str(part) for name, value in given.items() if value is not None for part in (name, value))
