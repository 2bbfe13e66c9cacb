"""Runs of the arms for the claims: resumable, two at a time, each kept under a digest of its settings and code."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from pitprop.cases._cache import folder
from pitprop.cases._claims import plain
from pitprop.cases.grid_solver.arms import THREE, arms
from pitprop.cases.grid_solver.canvas import Batch
from pitprop.cases.grid_solver.evaluation import accuracies
from pitprop.cases.grid_solver.losses import task_loss
from pitprop.cases.grid_solver.recipe import Knobs, Solving, held_out
from pitprop.indicators import class_entropy_ratio, class_loss_ratio
from pitprop.trials.progress import Meter, OnProgress

EVERY = 20
"""Steps between evaluations."""
WORKERS = 2
SWITCH, AFTER, SEEN_BEFORE = 150, (0, 1, 5, 10, 20, 30, 60), 30
"""Step at which the stages come on (epoch 5), when after it the loss is looked at, and steps kept from before it."""
STAGINGS: dict[str, dict[str, Any]] = {
    "stays off": {"hyperlora_start": 10**6, "solver_context_start": 10**6, "cross_attention_start": 10**6},
    "hard": {},
    "ramp": {"ramp": 30},
    "zero": {"hyperlora_zero_b": True, "attention_zero_out": True},
}
STAGING = "staging"
GENERATED: Mapping[str, Any] = {}
"""Knobs that choose no other data than the generated tasks."""
JUDGING = (
    "arms.py",
    "training_runs.py",
    "measurements.py",
    "statics.py",
    "judges.py",
    "readings.py",
    "claims.py",
    "prose.py",
    "run.py",
    "options.py",
    "pictures.py",
    "early.py",
    "paper.py",
)
"""Files on which no run depends."""
UNTRAINED = ("hyperlora.", "injector.", "solver.attention.", "stages.")


def run_arm(knobs: dict[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """Trains once.

    Returns:
        `history` of evaluations, what the trained weights without average give at the end (`raw`), and what the rules
        read, step by step (`rows`).
    """
    training = Solving(seed, Knobs(**knobs))
    history, rows = [], defaultdict(list)
    batches = training.batches(0)
    for step in range(steps + 1):
        if step % EVERY == 0 or step == steps:
            history.append({"step": step, **training.evaluate()})
        if step == steps:
            break
        told = training.step(next(batches))
        cells = told["logits"].movedim(1, -1).flatten(0, 2)
        rows["loss"].append(float(told["loss"]))
        rows["class_loss_ratio"].append(float(class_loss_ratio(cells, told["labels"].flatten())))
        rows["class_entropy_ratio"].append(float(class_entropy_ratio(cells, told["labels"].flatten())))
        if "adapter_ratio" in told:
            rows["adapter_ratio"].append(told["adapter_ratio"])
    return {"history": history, "raw": raw(training), "rows": rows}


@torch.no_grad()
def raw(training: Solving) -> dict[str, float]:
    """`evaluate`'s numbers of the trained weights, whether or not there is an average."""
    batch = held_out(training.knobs.data, training.knobs.size)
    training.model.eval()
    logits = training.model(batch).logits
    training.model.train()
    return {**accuracies(logits, batch.targets), "held_out_loss": float(task_loss(logits, batch.targets))}


def run_staging(seed: int, switch: int = SWITCH, after: Sequence[int] = AFTER) -> dict[str, Any]:
    """One trunk with the three modules off, and from step `switch` on one branch per way of switching them on.

    Returns:
        For each, `looks` at the held-out loss, and the `rows` of the last steps before and all after.
    """
    starts = {f"{name}_start": switch for name in ("hyperlora", "solver_context", "cross_attention")}
    base: dict[str, Any] = THREE | starts | {"use_ema": False}
    trunk = Solving(seed, Knobs(**base))
    before = [_trained(trunk, batch) for batch in islice(trunk.batches(0), switch)][-SEEN_BEFORE:]
    found = {}
    for name, changes in STAGINGS.items():
        branch = Solving(seed, Knobs(**base | changes))
        learned = {k: v for k, v in trunk.model.state_dict().items() if name != "zero" or not k.startswith(UNTRAINED)}
        branch.model.load_state_dict(learned, strict=False)
        for stage in branch.model.stages.values():
            stage.step.fill_(switch)  # type: ignore[union-attr, operator]
        branch.optimizer.load_state_dict(trunk.optimizer.state_dict())
        torch.manual_seed(seed + switch)
        looks, rows = [{"after": 0, **raw(branch)}], list(before)
        for step, batch in enumerate(islice(branch.batches(switch), max(after)), 1):
            rows.append(_trained(branch, batch))
            if step in after:
                looks.append({"after": step, **raw(branch)})
        found[name] = {"looks": looks, "rows": {key: [row[key] for row in rows] for key in rows[0]}}
    return found


def _trained(training: Solving, batch: list[Batch]) -> dict[str, float]:
    """One step, and what `stage-switch-shock` reads of it."""
    loss = float(training.step(batch)["loss"])
    own = (list(module.parameters(recurse=False)) for module in training.model.modules())
    return {"loss": loss, "num_trained": sum(any(p.grad is not None for p in some) for some in own)}


def job(name: str, seed: int, steps: int, on: Mapping[str, Any]) -> dict[str, Any]:
    """What one worker does."""
    torch.set_num_threads(1)
    return plain(run_staging(seed) if name == STAGING else run_arm({**arms()[name], **on}, seed, steps))


def run_kept(
    wanted: Sequence[tuple[str, int]],
    steps: int,
    progress: OnProgress | None = None,
    on: Mapping[str, Any] = GENERATED,
) -> dict[str, dict[str, Any]]:
    """What was run before of the arms and seeds asked for, as arm -> seed -> result."""
    results: dict[str, dict[str, Any]] = {}
    for name, seed in wanted:
        path = _path(name, seed, steps, on)
        if path.exists():
            results.setdefault(name, {})[str(seed)] = json.loads(path.read_text())
    return results


def run_all(
    wanted: Sequence[tuple[str, int]],
    steps: int,
    progress: OnProgress | None = None,
    on: Mapping[str, Any] = GENERATED,
) -> dict[str, dict[str, Any]]:
    """Every arm and seed asked for, as arm -> seed -> result; what was run before is read. `on` holds knobs of all."""
    meter = Meter(progress, len(wanted))
    meter.workers = WORKERS
    results = run_kept(wanted, steps, on=on)
    missing = [(name, seed) for name, seed in wanted if str(seed) not in results.get(name, {})]
    for _ in range(len(wanted) - len(missing)):
        meter.tick(known=True)
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        doing = {pool.submit(job, name, seed, steps, on): (name, seed) for name, seed in missing}
        for future in as_completed(doing):
            name, seed = doing[future]
            meter.enter(f"{name}, seed {seed}")
            path, result = _path(name, seed, steps, on), future.result()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, allow_nan=False))
            results.setdefault(name, {})[str(seed)] = result
            meter.tick()
    return results


def _path(name: str, seed: int, steps: int, on: Mapping[str, Any]) -> Path:
    settings = [sorted(STAGINGS.items()), SWITCH, AFTER] if name == STAGING else [{**arms()[name], **on}, steps, EVERY]
    digest = hashlib.sha256(json.dumps([name, seed, settings], sort_keys=True).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name not in JUDGING:
            digest.update(path.read_bytes())
    return folder() / "grid_solver" / f"{digest.hexdigest()[:20]}.json"
