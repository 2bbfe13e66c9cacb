"""The seed's experiment: stage 2 from the loaded base, in every variant, on the same images for each seed.

Seeds vary the cross-attention's random weights and the order of the images. The towers and the base are the same for
all seeds, as they were for the seed's authors: intervals hold for this base.
"""

import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pitprop.cases.clip_anomaly.arms import BASE, Arm
from pitprop.cases.clip_anomaly.losses import loss
from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.population import PARTS, Log, fit, rows
from pitprop.cases.clip_anomaly.recipe import evaluate, recipe
from pitprop.cases.clip_anomaly.sample import Batch, take
from pitprop.cases.clip_anomaly.stages import Data, Schedule, base, images, loaded, train
from pitprop.indicators import branch_ratio
from pitprop.trials.comparison import compare
from pitprop.trials.executors.local import cores
from pitprop.trials.paired_gradients import gradient_share
from pitprop.trials.progress import Meter, OnProgress

WINDOW = 20
"""Steps over which a loss or a gradient norm is averaged, at both ends of a run."""
NUM_BATCHES = 20
"""Batches of each gradient comparison."""


def one_loop(image_steps: int) -> Schedule:
    """A feedback loop with that many steps of stage 2, and few of stage 1: its text was trained with the base."""
    return Schedule(image_steps=image_steps, text_steps=20)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Size of the experiment."""

    seeds: tuple[int, ...] = (0, 1)
    schedule: Schedule = field(default_factory=lambda: one_loop(60))
    """Of one loop."""
    data: Data = field(default_factory=Data)
    workers: int | None = None
    """Processes; by default one per core. With 1, the arms run in this one."""


def run_arms(arms: Mapping[str, Arm], settings: Settings, progress: OnProgress | None = None) -> dict[str, Any]:
    """All arms on all seeds.

    Returns:
        `arms` (name -> measures, each one number per seed) and `comparisons` of the final pixel AUROC and of the final
        loss against the arm that continues the base, paired by seed.
    """
    meter = Meter(progress, len(arms))
    meter.enter("the towers and the base, made once and kept")
    base(settings.data)
    meter.enter("stage 2 of each arm")
    found: dict[str, Any] = {}
    meter.workers = min(settings.workers or cores(), len(arms))
    one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(meter.workers, get_context("spawn"), **one_thread) as workers:
        run = map if meter.workers == 1 else workers.map
        for name, done in zip(arms, run(run_arm, arms.values(), repeat(settings)), strict=True):
            found[name] = done
            meter.tick()
    return {"arms": found, "comparisons": comparisons(found, settings)}


def models(arm: Arm, settings: Settings) -> list[AdaptedCLIP]:
    """One model per seed, with the base's adapters."""
    return [loaded(settings.data, seed, arm.injection, arm.context_norm) for seed in settings.seeds]


def run_arm(arm: Arm, settings: Settings) -> dict[str, Any]:
    """Stage 2 of one arm, on every seed at once, and the evaluation after it (after each loop where there are some)."""
    pool, held_out = images(settings.data)
    each, schedule = models(arm, settings), settings.schedule
    before = _raw_norm(each, held_out)
    evaluations: list[dict[str, list[float]]] = []

    def look(loop: int = 0) -> None:
        measured = [evaluate(model, held_out) for model in each]
        evaluations.append({key: [one[key] for one in measured] for key in measured[0]})

    look()
    if arm.loops:
        logs = train(replace(schedule, num_feedback_loops=arm.loops), each, pool, settings.seeds, after_loop=look)
        log = logs[-1][1]
    else:
        which = rows(settings.seeds, len(pool.label), schedule.image_batch_size, schedule.image_steps)
        log = fit(each, pool, which, partial(_scaled, factor=arm.loss_factor), PARTS["image"], lr=schedule.image_lr,
                  gradient_factors={"image_adapter": arm.adapter_gradient,
                                    "image_cross_attn": arm.branch_gradient})  # fmt: skip
        look()
    return {
        **_condensed(log, arm.loss_factor),
        "first": evaluations[0],
        "last": evaluations[-1],
        "loops": evaluations[1:],
        "raw_norm": {"first": before, "last": _raw_norm(each, held_out)},
    }


def _scaled(model: AdaptedCLIP, batch: Batch, *, factor: float) -> Tensor:
    return factor * loss(model, batch)


def _condensed(log: Log, factor: float) -> dict[str, Any]:
    curve = log.loss / factor
    return {
        "loss_first": curve[0].tolist(),
        "loss_start": curve[:WINDOW].mean(0).tolist(),
        "loss_end": curve[-WINDOW:].mean(0).tolist(),
        "gradient_norms": {
            part: {"start": norms[:WINDOW].mean(0).tolist(), "end": norms[-WINDOW:].mean(0).tolist()}
            for part, norms in log.gradient_norms.items()
        },
    }


@torch.no_grad()
def _raw_norm(each: list[AdaptedCLIP], held_out: Batch) -> list[float]:
    """Norm of what the image cross-attention says before anything scales it, over the stream's; NaN without one."""
    found, stream = [], held_out.stream
    for model in each:
        if model.image_cross_attn is None or stream is None:
            found.append(math.nan)
            continue
        raw = model.image_cross_attn.raw(stream, model.text_context[held_out.class_index])
        found.append(float(branch_ratio(raw, stream).mean()))
    return found


def comparisons(arms: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    """Final pixel AUROC of each arm against the arm that continues the base, paired by seed."""
    found = []
    for name in arms:
        control = "loops: none" if name.startswith("loops: ") else BASE
        if name == control or control not in arms:
            continue
        made = compare(
            arms[control]["last"][recipe.metric],
            arms[name]["last"][recipe.metric],
            arm=name,
            changes=f"{name} against {control}",
            seeds=settings.seeds,
            metric=recipe.metric,
            margin=recipe.margin,
            horizon=settings.schedule.image_steps,
        )
        found.append(
            {key: getattr(made, key) for key in ("arm", "effect", "low", "high", "verdict", "margin", "metric")}
        )
    return found


def gradient_ladder(arms: Mapping[str, Arm], settings: Settings) -> dict[str, Any]:
    """The seed's gradient test done right, per arm: gradient at the adapter with and without the cross-attention."""
    pool = images(settings.data)[0]
    found = {}
    for name, arm in arms.items():
        if arm.injection is None or arm.loops or arm.injection.zero_init:
            continue  # a zero-initialised branch is exactly nothing at the start: both gradients are one
        model = loaded(settings.data, settings.seeds[0], arm.injection, arm.context_norm)
        which = rows([settings.seeds[0]], len(pool.label), settings.schedule.image_batch_size, NUM_BATCHES, 1)[:, 0]
        share = gradient_share(
            model,
            [take(pool, row) for row in which],
            loss,
            at="image_adapter.layers",
            without="image_cross_attn",
            num=NUM_BATCHES,
        )
        ratios = np.divide(share.with_norms, share.without_norms)
        found[name] = {
            "ratio": [share.ratio.mean, share.ratio.low, share.ratio.high],
            "single": [float(ratios.min()), float(ratios.max())],
            "with": list(share.with_norms),
            "without": list(share.without_norms),
            "branch_ratio": share.branch_ratio.mean,
            "verdict": share.verdict,
            "position": share.position,
            "factors": {key: [value.mean, value.low, value.high] for key, value in share.factors.items()},
        }
    return found
