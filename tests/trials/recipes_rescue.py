"""Trainings of milliseconds that collapse in the middle, and what brings them back is known.

`drifting`: from step 50 on an offset in front of a tanh grows by itself, so that going back to before the collapse only
repeats it, and so do new weights; what helps is to take the scale away in front of the tanh. `struck`: one blow at step
60 of one seed; going back helps. `lost`: the outputs don't depend on the inputs whatever is done.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pitprop.trials import Recipe

STEPS = 120
STRUCK_SEED = 77


@dataclass(frozen=True)
class Knobs:
    drift: float = 0.0
    """What each training step from 50 on adds to the offset."""
    width: int = 16
    blind: bool = False
    """Whether inputs are averaged over the batch."""


@dataclass(frozen=True)
class Drifting(Knobs):
    drift: float = 2.0


@dataclass(frozen=True)
class Lost:
    drift: float = 0.0
    width: int = 16
    blind: str = "yes"  # declares no alternative


class Neck(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Linear(8, width)
        self.register_buffer("age", torch.zeros(()))
        self.register_buffer("offset", torch.zeros(()))
        self.squash = nn.Tanh()

    def forward(self, x):
        return self.squash(self.inner(x) + self.offset)


class Model(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.neck = Neck(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.neck(x))


class Regression:
    """One linear task for all seeds; a seed decides the initialisation and the order of the data."""

    def __init__(self, seed: int, knobs):
        torch.manual_seed(seed)
        self.seed, self.knobs = seed, knobs
        self.answer = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
        self.model = Model(knobs.width)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.02)

    def make(self, index, seed):
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1000 * seed + index))
        return x.mean(0, keepdim=True).expand(16, 8) if self.knobs.blind else x, x @ self.answer

    def batches(self, cursor):
        while True:
            yield cursor, *self.make(cursor, self.seed + 1)
            cursor += 1

    def step(self, batch):
        index, x, y = batch
        with torch.no_grad():
            self.model.neck.age.add_(1)
            if self.model.neck.age > 50:
                self.model.neck.offset.add_(self.knobs.drift).clamp_(max=12)
            if self.seed == STRUCK_SEED and index == 60:
                self.model.neck.inner.bias.add_(1e3)
        out = self.model(x)
        loss = nn.functional.mse_loss(out, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "outputs": out.detach(), "targets": y}

    def evaluate(self):
        x, y = self.make(0, 0)
        with torch.no_grad():
            out = self.model(x)
        return {"spread": torch.cdist(out, out).mean() / torch.cdist(y, y).mean()}


def _recipe(knobs):
    return Recipe(build=Regression, knobs=knobs, metric="spread", margin=0.05, steps=STEPS)


drifting, struck, lost = _recipe(Drifting), _recipe(Knobs), _recipe(Lost)
