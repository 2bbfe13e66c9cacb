"""Runs of the arms for the claims: resumable, two at a time, each kept under a digest of its settings and code."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from pitprop.cases._cache import folder
from pitprop.cases._claims import plain
from pitprop.cases.grid_solver.arms import THREE, arms
from pitprop.cases.grid_solver.evaluation import accuracies
from pitprop.cases.grid_solver.losses import task_loss
from pitprop.cases.grid_solver.recipe import Knobs, Solving, held_out
from pitprop.indicators import class_entropy_ratio, class_loss_ratio
from pitprop.records import RUN, Row
from pitprop.rules import detect
from pitprop.rules.adapter_runaway import AdapterRunaway
from pitprop.rules.class_collapse import ClassCollapse
from pitprop.trials.progress import Meter, OnProgress

EVERY = 20
"""Steps between evaluations."""
WORKERS = 2
SWITCH, AFTER = 150, (0, 1, 5, 10, 20, 30, 60)
"""Step at which the stages come on (epoch 5), and when after it the loss is looked at."""
STAGINGS: dict[str, dict[str, Any]] = {
    "stays off": {"hyperlora_start": 10**6, "solver_context_start": 10**6, "cross_attention_start": 10**6},
    "hard": {},
    "ramp": {"ramp": 30},
    "zero": {"hyperlora_zero_b": True, "attention_zero_out": True},
}
STAGING = "staging"
JUDGING = (
    "arms.py",
    "training_runs.py",
    "measurements.py",
    "statics.py",
    "judges.py",
    "claims.py",
    "prose.py",
    "run.py",
)
"""Files on which no run depends."""
UNTRAINED = ("hyperlora.", "injector.", "solver.attention.", "stages.")


def run_arm(knobs: dict[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """Trains once.

    Returns:
        `history` of evaluations, what the trained weights without average give at the end (`raw`), the rules' alarms,
        and the changes' largest gain before the first step and after the last (`adapter_ratio`).
    """
    training = Solving(seed, Knobs(**knobs))
    history, rows, ratios = [], [], []
    batches = training.batches(0)
    for step in range(steps + 1):
        if step % EVERY == 0 or step == steps:
            history.append({"step": step, **training.evaluate()})
        if step == steps:
            break
        told = training.step(next(batches))
        cells = told["logits"].movedim(1, -1).flatten(0, 2)
        values = {
            "loss": float(told["loss"]),
            "class_loss_ratio": float(class_loss_ratio(cells, told["labels"].flatten())),
            "class_entropy_ratio": float(class_entropy_ratio(cells, told["labels"].flatten())),
        }
        if "adapter_ratio" in told:
            values["adapter_ratio"] = told["adapter_ratio"]
            ratios.append(told["adapter_ratio"])
        rows.append(Row(step=step, site=RUN, values=values))
    found = detect(rows, rules=(ClassCollapse(), AdapterRunaway()))
    return {
        "history": history,
        "raw": raw(training),
        "alarms": [f.rule for f in found],
        "longest_at_floor": longest_at_floor(rows),
        "adapter_ratio": [ratios[0], ratios[-1]] if ratios else None,
    }


@torch.no_grad()
def raw(training: Solving) -> dict[str, float]:
    """`evaluate`'s numbers of the trained weights, whether or not there is an average."""
    batch = held_out(training.knobs.data, training.knobs.size)
    training.model.eval()
    logits = training.model(batch).logits
    training.model.train()
    return {**accuracies(logits, batch.targets), "held_out_loss": float(task_loss(logits, batch.targets))}


def longest_at_floor(rows: Sequence[Row]) -> int:
    """Most steps in a row at which the rule `class-collapse` saw what it waits for."""
    rule, longest, now = ClassCollapse(), 0, 0
    for row in rows:
        there = row.values["class_entropy_ratio"] < rule.few and row.values["class_loss_ratio"] > rule.floor
        now = now + 1 if there else 0
        longest = max(longest, now)
    return longest


def run_staging(seed: int, switch: int = SWITCH, after: Sequence[int] = AFTER) -> dict[str, Any]:
    """One trunk with the three modules off, and from step `switch` on one branch per way of switching them on."""
    starts = {f"{name}_start": switch for name in ("hyperlora", "solver_context", "cross_attention")}
    base = THREE | starts | {"use_ema": False}
    trunk = Solving(seed, Knobs(**base))
    batches = trunk.batches(0)
    for _ in range(switch):
        trunk.step(next(batches))
    found = {}
    for name, changes in STAGINGS.items():
        branch = Solving(seed, Knobs(**base | changes))
        learned = {k: v for k, v in trunk.model.state_dict().items() if name != "zero" or not k.startswith(UNTRAINED)}
        branch.model.load_state_dict(learned, strict=False)
        for stage in branch.model.stages.values():
            stage.step.fill_(switch)  # type: ignore[union-attr, operator]
        branch.optimizer.load_state_dict(trunk.optimizer.state_dict())
        torch.manual_seed(seed + switch)
        batches, looks = branch.batches(switch), []
        for step in range(max(after) + 1):
            if step in after:
                looks.append({"after": step, **raw(branch)})
            if step < max(after):
                branch.step(next(batches))
        found[name] = looks
    return found


def job(name: str, seed: int, steps: int) -> dict[str, Any]:
    """What one worker does."""
    torch.set_num_threads(1)
    return plain(run_staging(seed) if name == STAGING else run_arm(dict(arms()[name]), seed, steps))


def run_kept(
    wanted: Sequence[tuple[str, int]], steps: int, progress: OnProgress | None = None
) -> dict[str, dict[str, Any]]:
    """What was run before of the arms and seeds asked for, as arm -> seed -> result."""
    results: dict[str, dict[str, Any]] = {}
    for name, seed in wanted:
        path = _path(name, seed, steps)
        if path.exists():
            results.setdefault(name, {})[str(seed)] = json.loads(path.read_text())
    return results


def run_all(
    wanted: Sequence[tuple[str, int]], steps: int, progress: OnProgress | None = None
) -> dict[str, dict[str, Any]]:
    """Every arm and seed asked for, as arm -> seed -> result; what was run before is read."""
    meter = Meter(progress, len(wanted))
    meter.workers = WORKERS
    results = run_kept(wanted, steps)
    missing = [(name, seed) for name, seed in wanted if str(seed) not in results.get(name, {})]
    for _ in range(len(wanted) - len(missing)):
        meter.tick(known=True)
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        doing = {pool.submit(job, name, seed, steps): (name, seed) for name, seed in missing}
        for future in as_completed(doing):
            name, seed = doing[future]
            meter.enter(f"{name}, seed {seed}")
            path, result = _path(name, seed, steps), future.result()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, allow_nan=False))
            results.setdefault(name, {})[str(seed)] = result
            meter.tick()
    return results


def _path(name: str, seed: int, steps: int) -> Path:
    settings = [sorted(STAGINGS.items()), SWITCH, AFTER] if name == STAGING else [arms()[name], steps, EVERY]
    digest = hashlib.sha256(json.dumps([name, seed, settings], sort_keys=True).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name not in JUDGING and path.name not in ("options.py", "pictures.py"):
            digest.update(path.read_bytes())
    return folder() / "grid_solver" / f"{digest.hexdigest()[:20]}.json"
