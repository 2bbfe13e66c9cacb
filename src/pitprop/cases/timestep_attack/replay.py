"""Weights trained on stored losses: what the attack's own losses do to them when nothing else changes.

No denoiser runs, so a thousand images take seconds. What it leaves out is the weights' effect on the latents.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from pitprop.cases.timestep_attack.settings import LAPTOP
from pitprop.cases.timestep_attack.weights import INITIAL, LR, Stream, TimestepWeights


def replay(
    losses: Float[np.ndarray, "iteration timestep"],
    *,
    images: int,
    seed: int = 0,
    schedule: tuple[float, ...] = INITIAL,
    gamma: float = LAPTOP.gamma,
    lr: float = LR,
    optimizer: Literal["adam", "sgd"] = "adam",
    per_image: int = LAPTOP.iterations,
) -> Float[np.ndarray, "image timestep"]:
    """Weights of the mode `learnable` after each image.

    Args:
        losses: Unweighted, by iteration; repeated from the start when they are used up.
        images: Number of images.
        seed: Of the network.
        schedule: Initial weights.
        gamma: Factor of the loss.
        lr: Learning rate.
        optimizer: Adam, made anew for every image as in the original, or plain descent.
        per_image: Iterations per image.
    """
    weights = TimestepWeights([Stream(mode="learnable", seed=seed, schedule=schedule)], lr=lr)
    if optimizer == "sgd":
        weights.optimizer = torch.optim.SGD(weights.parameters(), lr=lr)  # type: ignore[assignment]
    rows = torch.as_tensor(losses, dtype=torch.float32)
    found = []
    for image in range(images):
        weights.start_image()
        for iteration in range(per_image):
            row = rows[(image * per_image + iteration) % len(rows)][None]
            weights.zero_grad()
            (gamma * len(schedule) * (weights(row) * row).sum()).backward()
            weights.step(row)
        with torch.no_grad():
            found.append(weights(rows[:1])[0].numpy().copy())
    return np.stack(found)
