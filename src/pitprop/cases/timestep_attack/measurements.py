"""What the claims are judged on: the experiment's numbers, replays of its losses, and a few that need no attack.

What `run_claims` returns is committed as `results/claims.json`; verdicts and the README's table are functions of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pitprop.cases._claims import provenance
from pitprop.cases.timestep_attack.attack import Attack, prepare
from pitprop.cases.timestep_attack.detection import lead, plain_lead, watch_weights
from pitprop.cases.timestep_attack.experiment import BASELINE, Plan, loaded, run_experiment
from pitprop.cases.timestep_attack.replays import replays
from pitprop.cases.timestep_attack.streams import StreamResult, run_streams
from pitprop.cases.timestep_attack.weights import INITIAL, Mode, Stream, TimestepWeights
from pitprop.indicators import total_variation
from pitprop.trials.progress import OnProgress

SEEDS = 10
REPORTED = 0.0036
"""Shift of the cross-attention weights that the seed reports (L1)."""
INITIALISATIONS = 400
WIRED_IMAGES = 10


def run_claims(plan: Plan, command: Sequence[str], progress: OnProgress | None = None) -> dict[str, Any]:
    """Runs the experiment and everything else that the claims need.

    Args:
        plan: Size of the experiment.
        command: Written into the results.
        progress: Told after each image.
    """
    results, ran = run_experiment(plan, progress)
    return condense(plan, results, ran, command)


def condense(
    plan: Plan, results: dict[str, Any], ran: dict[str, StreamResult], command: Sequence[str]
) -> dict[str, Any]:
    """The experiment's results with the replays and what needs no attack."""
    learned = [result for name, result in ran.items() if name.startswith("learnable") and "detached" not in name]
    detections = [watch_weights(result.weights.numpy(), result.losses.numpy()) for result in learned]
    return {
        "provenance": provenance(command, **results["settings"]),
        **{key: value for key, value in results.items() if key != "settings"},
        "lead": plain_lead(lead(detections)),
        "replays": replays(ran[BASELINE].losses.numpy(), plan),
        "census": {
            "dead": without_gradient(plan, "learnable", cross_weights="dead"),
            "wired": without_gradient(plan, "learnable", cross_weights="wired"),
            "detached": without_gradient(plan, "learnable_detached"),
        },
        "wired": wired(plan),
        "initial_mismatch": initial_mismatch(),
        "small_weight": gradients_at_a_small_weight(),
    }


def without_gradient(plan: Plan, mode: Mode, **changes: Any) -> list[str]:
    """Names of the weights' parameters whose gradient is None after the second iteration of an attack."""
    settings = replace(plan.attack, **changes)
    backbone, known, chosen = loaded(plan, 1)
    weights = TimestepWeights([Stream(mode=mode)])
    prepared = prepare(backbone, chosen.images, chosen.labels, settings)
    running = Attack(backbone, known.surrogate, chosen.labels, prepared, weights, settings)
    for _ in range(2):
        running.iterate()
    return [name for name, parameter in weights.named_parameters() if parameter.grad is None]


def wired(plan: Plan) -> dict[str, Any]:
    """Cross-attention weights that the loss reads, over 10 images: first, last, and their total variation."""
    settings = replace(plan.attack, cross_weights="wired")
    backbone, known, chosen = loaded(plan, min(WIRED_IMAGES, plan.images))
    (ran,) = run_streams(backbone, known, chosen, [Stream(mode="learnable")], settings, plan.lr)
    first, last = ran.cross_weights[0].numpy(), ran.cross_weights[-1].numpy()
    return {
        "images": len(chosen.labels),
        "first": first.tolist(),
        "last": last.tolist(),
        "total_variation": float(total_variation(first, last)),
    }


def initial_mismatch(num: int = INITIALISATIONS) -> dict[str, float]:
    """L1 distance between a fresh network's weights and its schedule: median, 10 % and 90 % quantile over `num` seeds,
    and the share that is below the shift that the seed reports.
    """
    weights = TimestepWeights([Stream(mode="learnable_detached", seed=seed) for seed in range(num)])
    with torch.no_grad():
        shift = (weights(torch.zeros(num, len(INITIAL))) - torch.tensor(INITIAL)).abs().sum(1).numpy()
    low, middle, high = np.quantile(shift, (0.1, 0.5, 0.9))
    return {"median": middle, "low": low, "high": high, "share_below": float((shift < REPORTED).mean()), "seeds": num}


def gradients_at_a_small_weight() -> dict[str, list[float]]:
    """The seed's own example, w = (0.999, 0.001) and L = (0.0001, 0.001): gradients of sum w L by weight, by logit, and
    by what a latent gets through each loss.
    """
    logits = torch.tensor([0.999, 0.001], dtype=torch.float64).log().requires_grad_()
    losses = torch.tensor([0.0001, 0.001], dtype=torch.float64, requires_grad=True)
    weights = logits.softmax(-1)
    weights.retain_grad()
    (weights * losses).sum().backward()
    grads = {"weight": weights.grad, "logit": logits.grad, "latent": losses.grad}
    return {name: [] if grad is None else grad.tolist() for name, grad in grads.items()}
