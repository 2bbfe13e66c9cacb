"""The full size: width 256, six solver steps, a canvas of 30 x 30, the seed's batches and rates, bf16, ARC's own tasks.

What still differs from the original: tasks are drawn and augmented on the fly instead of from a cache of 400 000, three
shown pairs at most, and both meta-losses as at small size (see the README). An epoch is as many optimizer steps as the
original's cache gives.
"""

import math
import time
from itertools import islice
from typing import Any

import torch

from pitprop._errors import PitpropError
from pitprop.cases.grid_solver.arms import configuration
from pitprop.cases.grid_solver.canvas import Batch
from pitprop.cases.grid_solver.evaluation import accuracies
from pitprop.cases.grid_solver.losses import task_loss
from pitprop.cases.grid_solver.recipe import STEPS_PER_EPOCH, Knobs, Solving, held_out
from pitprop.trials.progress import Meter, OnProgress

FULL: dict[str, Any] = {
    "size": 30,
    "hidden_dim": 256,
    "num_solver_steps": 6,
    "places": 8,
    "hyperlora_init": 0.1,
    "hpm_capacity": 10_000,
    "lr": 5e-4,
    "ema_decay": 0.999,
}
BATCHES = {"old": (75, 4), "new": (55, 6), "option_a": (55, 6), "option_b": (45, 8), "option_c": (75, 4)}
"""Tasks per micro-batch, and micro-batches per optimizer step."""
SAMPLES = 400_000
"""Of the original's cache: one epoch."""
EVALUATED_AT_ONCE = 16


def steps_per_epoch(config: str) -> int:
    batch, accumulated = BATCHES[config]
    return SAMPLES // (batch * accumulated)


def full_size(config: str, data: str) -> Knobs:
    """Knobs of a configuration at the original's size; what counts in epochs counts in its epochs."""
    batch, accumulated = BATCHES[config]
    chosen, longer = configuration(config), steps_per_epoch(config) / STEPS_PER_EPOCH
    starts = {name: round(step * longer) for name, step in chosen.items() if name.endswith("_start")}
    sizes: dict[str, Any] = FULL | {"batch_size": batch, "grad_accumulation_steps": accumulated, "data": data}
    sizes["meta_learning_start_epoch"] = round(Knobs.meta_learning_start_epoch * longer)
    return Knobs(**chosen | starts | sizes)


def train(knobs: Knobs, steps: int, *, seed: int = 0, progress: OnProgress | None = None) -> dict[str, Any]:
    """Trains on the GPU where there is one.

    Returns:
        `before` and `after` (accuracies and loss on the held-out tasks, of the average where there is one),
        `tasks_per_s`, and `peak_gib` (NaN without a GPU).

    Raises:
        PitpropError: The GPU's memory doesn't hold it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training, meter = Solving(seed, knobs), Meter(progress, steps)
    training.model.to(device)
    if training.ema is not None:
        training.ema.to(device)
    before = evaluate(training, device)
    spent = 0.0
    try:
        for batch in islice(training.batches(0), steps):
            meter.enter(f"training on {device.type}")
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16):
                told = training.step([_on(device, micro) for micro in batch])
            float(told["loss"])  # waits for the GPU
            spent += time.perf_counter() - start
            meter.tick()
    except torch.OutOfMemoryError as error:
        raise PitpropError(
            f"The GPU's memory doesn't hold {knobs.batch_size} tasks at a time",
            means="the original took 19 to 33 GB.",
            do="take a configuration with checkpointing (new, option_a), or a larger GPU.",
        ) from error
    return {
        "before": before,
        "after": evaluate(training, device),
        "tasks_per_s": steps * knobs.batch_size * knobs.grad_accumulation_steps / spent,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else math.nan,
    }


@torch.no_grad()
def evaluate(training: Solving, device: torch.device) -> dict[str, float]:
    """As `Solving.evaluate`, a few tasks at a time."""
    model = training.model if training.ema is None else training.ema.module
    was, _ = model.training, model.eval()
    whole, logits = held_out(training.knobs.data, training.knobs.size), []
    for i in range(0, len(whole.inputs), EVALUATED_AT_ONCE):
        with torch.autocast(device.type, torch.bfloat16):
            logits.append(model(_on(device, Batch(*(part[i : i + EVALUATED_AT_ONCE] for part in whole)))).logits)
    model.train(was)
    every = torch.cat(logits).float().cpu()
    return {**accuracies(every, whole.targets), "held_out_loss": float(task_loss(every, whole.targets))}


def _on(device: torch.device, batch: Batch) -> Batch:
    return Batch(*(part.to(device) for part in batch))
