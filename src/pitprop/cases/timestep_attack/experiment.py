"""The seed's experiment whole: every weight mode on one stream of images, condensed to plain numbers.

Two processes share the work: this one attacks under the weights that learn, image by image, and a second one under
those that never change, and the seed's schedule once more with what the original's fork keeps from the latent.
"""

import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from pitprop.cases._threads import one_thread
from pitprop.cases.timestep_attack import classifiers, data, denoiser
from pitprop.cases.timestep_attack.detection import watch_weights
from pitprop.cases.timestep_attack.metrics import PER_IMAGE, frechet
from pitprop.cases.timestep_attack.prediction import predict_vertex
from pitprop.cases.timestep_attack.settings import LAPTOP, Settings
from pitprop.cases.timestep_attack.streams import MEMORYLESS, StreamResult, run_streams, stream_of_images
from pitprop.cases.timestep_attack.weights import INITIAL, LR, MODES, PILOT, Mode, Stream
from pitprop.trials.comparison import compare
from pitprop.trials.executors.local import die_with_parent
from pitprop.trials.progress import Meter, OnProgress

BASELINE = "fixed"
PILOT_NAME = "fixed (pilot schedule)"
CROSS_NAME = "fixed (cross_gradient)"
"""The baseline, where the variance of cross-attention reaches the latent too."""
MARGINS = {"success": 0.05, "transfer": 0.05, "l1": 0.5, "l2": 0.1, "linf": 0.03, "worst_loss": 1e-4}
"""Differences that are too small to matter, fixed before the first run: one image in twenty, and some 7 % of a norm."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Size of the experiment."""

    images: int = 100
    seeds: int = 1
    """Of the modes with a network only `learnable` runs on all of them."""
    modes: tuple[Mode, ...] = MODES
    source: data.Source = "digits"
    attack: Settings = LAPTOP
    denoiser_steps: int = denoiser.DenoiserSettings.steps
    lr: float = LR
    """Of Adam on the weights."""
    first_seed: int = 0


def streams_of(plan: Plan) -> dict[str, Stream]:
    """Name -> stream. A seed beyond the first is named in brackets."""
    found = {}
    for mode in dict.fromkeys((BASELINE, *plan.modes)):
        for offset in range(plan.seeds if mode == "learnable" else 1):
            name = mode if offset == 0 else f"{mode} [{offset}]"
            found[name] = Stream(mode=mode, seed=plan.first_seed + offset)
    if "fixed" in plan.modes:
        found[PILOT_NAME] = Stream(mode="fixed", schedule=PILOT)
    return found


def run_experiment(plan: Plan, progress: OnProgress | None = None) -> tuple[dict[str, Any], dict[str, StreamResult]]:
    """Attacks all images in all streams.

    Returns:
        Plain numbers (`settings`, `streams`, `comparisons`, `references`, `predicted`), and the streams as they are.
    """
    meter = Meter(progress, plan.images)
    meter.enter("training the denoiser and the classifiers, where the cache has none")
    parts = loaded(plan)
    named = streams_of(plan)
    learning = [name for name, stream in named.items() if stream.mode not in MEMORYLESS]
    constant = [name for name in named if name not in learning]
    meter.enter(f"attacking {plan.images} images in {len(named)} streams")
    with second_process() as pool:
        later = pool.submit(_run, plan, [named[name] for name in constant]) if learning else None
        crossed = pool.submit(_run, _crossed(plan), [named[BASELINE]]) if "fixed" in plan.modes else None
        results = _run(plan, [named[name] for name in learning or constant], meter)
        results += later.result() if later else []
        ran = dict(zip((*learning, *constant), results, strict=True))
        ran = {name: ran[name] for name in named}
        if crossed:
            (ran[CROSS_NAME],) = crossed.result()
    return _condensed(plan, ran, parts), ran


def second_process() -> ProcessPoolExecutor:
    """One more process, which ends with this one, in whatever way that ends."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=die_with_parent)


def _crossed(plan: Plan) -> Plan:
    return replace(plan, attack=replace(plan.attack, cross_gradient=True))


def _run(plan: Plan, streams: Sequence[Stream], meter: Meter | None = None) -> list[StreamResult]:
    with one_thread():  # the tensors are small, so that a second one would cost more than it gives besides
        backbone, known, chosen = loaded(plan)
        return run_streams(backbone, known, chosen, streams, plan.attack, plan.lr, meter)


def loaded(
    plan: Plan, images: int | None = None
) -> tuple[denoiser.PixelBackbone, classifiers.Classifiers, data.Images]:
    """Denoiser, classifiers and the first images of the stream (by default the plan's)."""
    known = classifiers.load(plan.source)
    settings = denoiser.DenoiserSettings(source=plan.source, steps=plan.denoiser_steps)
    return denoiser.load(settings), known, stream_of_images(plan.source, known, images or plan.images)


def _condensed(plan: Plan, ran: dict[str, StreamResult], parts: Any) -> dict[str, Any]:
    _, known, chosen = parts
    train = data.load(plan.source)[0]
    by_iteration = _by_image(ran[BASELINE].losses, plan).mean(0)
    predicted = predict_vertex(by_iteration, np.array(INITIAL), plan.lr)
    return {
        "settings": asdict(plan),
        "streams": {name: _stream(result, plan) for name, result in ran.items()},
        "comparisons": comparisons(ran, plan),
        "predicted": predicted._asdict(),
        "references": {
            "clean accuracy": {
                "surrogate": _accuracy(known.surrogate, plan.source),
                **{name: _rate(label, plan.source) for name, label in known.transfer.items()},
            },
            "frechet": {"training images": frechet(known, train.images[: plan.images], chosen.images)},
        },
    }


def _stream(result: StreamResult, plan: Plan) -> dict[str, Any]:
    losses = _by_image(result.losses, plan)
    weights = _by_image(result.weights, plan)[:, 0]
    seen = watch_weights(result.weights.numpy(), result.losses.numpy())
    return {
        "stream": asdict(result.stream),
        **{name: _rounded(values) for name, values in per_image_of(result, plan).items()},
        "frechet": result.frechet,
        "weights": _rounded(np.concatenate([weights, result.weights[-1:].numpy()])),
        "cross_weights": {
            "first": result.cross_weights[0].tolist(),
            "last": result.cross_weights[-1].tolist(),
        },
        "losses": losses.mean((0, 1)).tolist(),
        "losses_by_iteration": losses.mean(0).tolist(),
        "attack_loss": float(result.attack_loss.mean()),
        "cross_loss": float(result.cross_loss.mean()),
        "detection": seen._asdict(),
    }


def per_image_of(result: StreamResult, plan: Plan) -> dict[str, np.ndarray]:
    """What is compared pair by pair: `metrics.PER_IMAGE`, and `worst_loss`, the largest timestep's loss at the end."""
    found = {name: result.metrics[name].numpy() for name in PER_IMAGE}
    return {**found, "worst_loss": _by_image(result.losses, plan)[:, -1].max(-1)}


def comparisons(ran: dict[str, StreamResult], plan: Plan) -> list[dict[str, Any]]:
    """Each stream against the seed's fixed schedule, image by image."""
    base = per_image_of(ran[BASELINE], plan)
    found = []
    for name, result in ran.items():
        if name == BASELINE or "[" in name:
            continue
        for metric, values in per_image_of(result, plan).items():
            both = np.isfinite(values) & np.isfinite(base[metric])
            compared = compare(
                base[metric][both],
                values[both],
                arm=name,
                changes=f"weights {name} against {BASELINE}",
                seeds=range(int(both.sum())),
                metric=metric,
                higher_is_better=metric in ("success", "transfer"),
                margin=MARGINS[metric],
            )
            kept = ("arm", "metric", "effect", "low", "high", "margin", "verdict")
            found.append({key: getattr(compared, key) for key in kept} | {"pairs": int(both.sum())})
    return found


def _by_image(values: torch.Tensor, plan: Plan) -> np.ndarray:
    return values.reshape(-1, plan.attack.iterations, values.shape[-1]).numpy()


def _rounded(values: np.ndarray) -> list[Any]:
    return np.vectorize(lambda v: float(f"{v:.5g}") if math.isfinite(v) else math.nan)(values).tolist()


def _accuracy(network: torch.nn.Module, source: data.Source) -> float:
    return _rate(lambda images: network(images).argmax(-1), source)


def _rate(label: classifiers.Labeller, source: data.Source) -> float:
    test = data.load(source)[1]
    return float((label(test.images) == test.labels).float().mean())
