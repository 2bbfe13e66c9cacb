"""What the claims are judged on: the arms' runs, condensed, the staged branches, and what needs no training.

What `run_claims` returns is committed as `results/claims.json`; verdicts and the README's table are functions of it.
Runs are kept under the user's cache folder, so that a measurement that was interrupted goes on where it was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pitprop.cases._claims import provenance
from pitprop.cases.grid_solver import early
from pitprop.cases.grid_solver.arms import FIRST, NEXT, ON_ARC, ON_ARC_TOO, arms
from pitprop.cases.grid_solver.recipe import known, recipe, tasks
from pitprop.cases.grid_solver.statics import statics
from pitprop.cases.grid_solver.training_runs import STAGING, run_all, run_kept
from pitprop.records import RUN, Row
from pitprop.rules import Rule, detect
from pitprop.rules.adapter_runaway import AdapterRunaway
from pitprop.rules.class_collapse import ClassCollapse
from pitprop.rules.stage_switch_shock import StageSwitchShock
from pitprop.trials.comparison import compare
from pitprop.trials.progress import OnProgress
from pitprop.trials.recipe import Recipe

SEEDS, FEWER = 5, 3
"""Seeds of the arms that the root cause is judged on and of the staged branches, and of all others."""
RULES = (ClassCollapse(), AdapterRunaway())
BISECTION = Path(__file__).parent / "results" / "bisection.json"
"""From OLD to NEW: what `pitprop bisect` wrote, without its runs; see the README."""
STEPS_ON_ARC = 480
"""Twice the others: at 240 OLD still says background everywhere on Mini-ARC (seed 100)."""
COLLECTIONS = {"ARC-AGI-1": ("arc-agi-1/data/training", 10), "Mini-ARC": ("mini-arc", 5)}
"""Real tasks: where they lie in the folder that `--data` names, and the side of the canvas, which all grids fit."""
METRICS = ("fg_accuracy", "bg_accuracy", "bg_excess", "held_out_loss", "exact", "marginal_entropy")


def wanted(seeds: int = SEEDS) -> list[tuple[str, int]]:
    """Arm and seed of every run, what matters most first."""
    few = range(min(FEWER, seeds))
    rest = [name for name in arms() if name not in (*FIRST, *NEXT)]
    return [
        *((name, seed) for seed in few for name in FIRST),
        *((STAGING, seed) for seed in range(seeds)),
        *((name, seed) for seed in few for name in NEXT),
        *((name, seed) for seed in range(FEWER, seeds) for name in FIRST),
        *((name, seed) for seed in few for name in rest),
    ]


def run_claims(
    seeds: int = SEEDS, *, steps: int = recipe.steps, partial: bool = False, progress: OnProgress | None = None
) -> dict[str, Any]:
    """Runs what wasn't run before, and condenses it.

    Args:
        seeds: Number of seeds, 0 to `seeds - 1`; arms that aren't in `FIRST` get three of them at most.
        steps: Steps of each run.
        partial: Take what was run before, and run nothing.
        progress: Told of each run.
    """
    runs = (run_kept if partial else run_all)(wanted(seeds), steps, progress)
    command = ("python", "-m", "pitprop.cases.grid_solver.claims", "--run", "--seeds", str(seeds))
    return condense(runs, command, seeds=seeds, steps=steps)


def condense(
    runs: Mapping[str, Mapping[str, Any]], command: Sequence[str], *, seeds: int, steps: int
) -> dict[str, Any]:
    """Curves of each arm, effects against OLD on the seeds that both have, staged branches, and statics."""
    return {
        "provenance": provenance(command, seeds=seeds, steps=steps, metric=recipe.metric, margin=recipe.margin),
        "references": known(),
        **_trained(runs, steps),
        "staging": {seed: _branches(found) for seed, found in sorted(runs.get(STAGING, {}).items())},
        "statics": statics(range(FEWER)),
        "bisection": json.loads(BISECTION.read_text()) if BISECTION.exists() else None,
    }


def run_on_arc(
    folder: Path,
    progress: OnProgress | None = None,
    *,
    names: Sequence[str] = ON_ARC,
    more: Sequence[str] = ON_ARC_TOO,
    seeds: int = SEEDS,
    steps: int = STEPS_ON_ARC,
) -> dict[str, Any]:
    """The arms `names` and `more` on real tasks, a file in eight held out; what was run before is read.

    Args:
        folder: Holds the repositories ARC-AGI and Mini-ARC, as in `COLLECTIONS`.
        progress: Told of each run.
        names: Arms; OLD is what the others are compared with.
        more: Arms that run on three seeds at most.
        seeds: Number of seeds, 0 to `seeds - 1`.
        steps: Steps of each run.

    Returns:
        For each collection, its number of tasks, what is known without training, and the arms and effects as `condense`
        gives them.
    """
    found = {}
    for collection, (part, size) in COLLECTIONS.items():
        data = str((folder / part).absolute())
        every = [(name, seed) for seed in range(seeds) for name in names]
        every += [(name, seed) for seed in range(min(seeds, FEWER)) for name in more]
        runs = run_all(every, steps, progress, {"data": data, "size": size})
        found[collection] = {
            "size": size,
            "num_tasks": [len(some) for some in tasks(data, size)],
            "references": known(data, size),
            **_trained(runs, steps),
        }
    command = ("python", "-m", "pitprop.cases.grid_solver.claims", "--run", "--data", "DIR")
    settings = provenance(command, seeds=seeds, steps=steps, metric=recipe.metric, margin=recipe.margin)
    return {"provenance": settings, "collections": found}


def _trained(runs: Mapping[str, Mapping[str, Any]], steps: int) -> dict[str, Any]:
    """Curves of each arm, and effects against OLD on the seeds that both have."""
    trained = {name: dict(sorted(runs[name].items())) for name in arms() if name in runs}
    treated = [name for name in trained if name != "OLD" and "OLD" in trained]
    return {
        "arms": {name: _arm(by_seed) for name, by_seed in trained.items()},
        "effects": {name: _effect(trained, name, steps, recipe) for name in treated},
        # The held-out loss is stablemax's, which says little of a network that was trained with another.
        "effects_on_loss": {
            name: _effect(trained, name, steps, early.recipe) for name in treated if "loss_mode" not in arms()[name]
        },
    }


def _arm(by_seed: Mapping[str, Any]) -> dict[str, Any]:
    runs = list(by_seed.values())
    return {
        "seeds": [int(seed) for seed in by_seed],
        "steps": [row["step"] for row in runs[0]["history"]],
        **{metric: [[row[metric] for row in run["history"]] for run in runs] for metric in METRICS},
        "raw": {metric: [run["raw"][metric] for run in runs] for metric in METRICS},
        "alarms": [alarms(run["rows"], *RULES) if "rows" in run else None for run in runs],
    }


def _branches(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"looks": branch["looks"], "alarms": alarms(branch["rows"], StageSwitchShock())}
        for name, branch in found.items()
    }


def alarms(rows: Mapping[str, Sequence[float]], *rules: Rule) -> dict[str, int]:
    """Rules that find something in a run, and the row at which they do."""
    num = len(rows["loss"])
    steps = [
        # What begins with a stage is shorter, and ends with the run.
        Row(step=step, site=RUN, values={k: v[step - num] for k, v in rows.items() if len(v) >= num - step})
        for step in range(num)
    ]
    return {found.rule: found.detected for found in detect(steps, rules=rules)}


def _effect(trained: Mapping[str, Mapping[str, Any]], name: str, steps: int, by: Recipe) -> dict[str, Any]:
    """On the weights as trained: OLD is evaluated by its average and NEW isn't, which is no effect of the training."""
    seeds = [seed for seed in trained[name] if seed in trained["OLD"]]
    control, treated = ([trained[arm][seed]["raw"][by.metric] for seed in seeds] for arm in ("OLD", name))
    found = compare(
        control,
        treated,
        arm=name,
        changes=f"{name} against OLD",
        seeds=[int(seed) for seed in seeds],
        metric=by.metric,
        higher_is_better=by.higher_is_better,
        margin=by.margin,
        horizon=steps,
    )
    return asdict(found)
