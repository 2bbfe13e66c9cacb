"""A recipe of one's own: an autoencoder for handwritten digits that soon gives the same picture for every digit.

Its learning rate suits SGD with momentum, and Adam was given it. `diagnose` isn't told so; it finds the knob.

pitprop diagnose examples/my_recipe.py:recipe
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from pitprop import Recipe
from pitprop.indicators import output_spread, output_uniqueness

PIXELS = torch.tensor(load_digits().data / 16, dtype=torch.float32)
TRAIN, HELD_OUT = PIXELS[:1400], PIXELS[1400:1528]


@dataclass(frozen=True)
class Knobs:
    """What may be chosen; a Literal or a bool declares alternatives that `diagnose` tries by itself."""

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 0.5
    activation: Literal["relu", "tanh"] = "relu"
    dropout: bool = False


class Training:
    """One training: a model, an optimizer, batches by number, a step, an evaluation."""

    def __init__(self, seed: int, knobs: Knobs):
        torch.manual_seed(seed)
        self.seed = seed
        squash = nn.ReLU() if knobs.activation == "relu" else nn.Tanh()
        self.model = nn.Sequential(
            nn.Linear(64, 32), squash, nn.Dropout(0.1 if knobs.dropout else 0.0), nn.Linear(32, 64)
        )
        self.optimizer = (
            torch.optim.Adam(self.model.parameters(), lr=knobs.lr)
            if knobs.optimizer == "adam"
            else torch.optim.SGD(self.model.parameters(), lr=knobs.lr, momentum=0.9)
        )

    def batches(self, cursor):
        while True:
            yield TRAIN[np.random.default_rng((self.seed, cursor)).integers(len(TRAIN), size=32)]
            cursor += 1

    def step(self, batch):
        outputs = self.model(batch)
        loss = nn.functional.mse_loss(outputs, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "outputs": outputs.detach(), "targets": batch}

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        outputs = self.model(HELD_OUT)
        self.model.train()
        return {
            "output_spread": float(output_spread(outputs, HELD_OUT)),
            "output_uniqueness": float(output_uniqueness(outputs)),
            "mse": float(nn.functional.mse_loss(outputs, HELD_OUT)),
        }


recipe = Recipe(
    build=Training,
    knobs=Knobs,
    metric="output_spread",
    margin=0.05,
    steps=150,
    guards=("output_uniqueness", "mse"),
)
