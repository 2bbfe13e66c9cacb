"""Weights trained on stored losses: what the attack's own losses do to them when nothing else changes.

No denoiser runs, so a thousand images take seconds. What it leaves out is the weights' effect on the latents.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from pitprop.cases.timestep_attack.settings import LAPTOP
from pitprop.cases.timestep_attack.weights import INITIAL, LR, Stream, TimestepWeights

EPS = 1e-8
"""Of Adam, as torch has it."""


def replay(
    losses: Float[np.ndarray, "iteration timestep"],
    *,
    images: int,
    seeds: Sequence[int] = (0,),
    schedule: tuple[float, ...] = INITIAL,
    gamma: float = LAPTOP.gamma,
    lr: float = LR,
    optimizer: Literal["adam", "sgd"] = "adam",
    eps: float = EPS,
    forgets: bool = True,
    per_image: int = LAPTOP.iterations,
) -> Float[np.ndarray, "seed image timestep"]:
    """Weights of the mode `learnable` after each image.

    Args:
        losses: Unweighted, by iteration; repeated from the start when they are used up.
        images: Number of images.
        seeds: Of the networks, which learn side by side.
        schedule: Initial weights.
        gamma: Factor of the loss.
        lr: Learning rate.
        optimizer: Adam, or plain descent.
        eps: Of Adam.
        forgets: Whether Adam is made anew for every image, as in the original.
        per_image: Iterations per image.
    """
    weights = TimestepWeights([Stream(mode="learnable", seed=seed, schedule=schedule) for seed in seeds], lr=lr)
    parameters = list(weights.parameters())
    made = torch.optim.SGD(parameters, lr) if optimizer == "sgd" else torch.optim.Adam(parameters, lr, eps=eps)
    weights.optimizer = made  # type: ignore[assignment]
    rows = torch.as_tensor(losses, dtype=torch.float32)
    found = []
    for image in range(images):
        if forgets:
            weights.start_image()
        for iteration in range(per_image):
            row = rows[(image * per_image + iteration) % len(rows)].expand(len(seeds), -1)
            weights.zero_grad()
            (gamma * len(schedule) * (weights(row) * row).sum()).backward()
            weights.step(row)
        with torch.no_grad():
            found.append(weights(rows[:1]).numpy().copy())
    return np.stack(found, 1)
