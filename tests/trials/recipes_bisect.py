"""Recipes of a millisecond for the bisection: twelve changes, and a metric that says which of them are guilty."""

import random
from dataclasses import dataclass

import torch
from torch import nn

from pitprop.trials import Recipe

STEPS = 1


@dataclass(frozen=True)
class Knobs:
    lr: float = 0.1
    depth: int = 2
    norm: str = "layer"
    bias: bool = True
    betas: tuple[float, ...] = (0.9, 0.999)
    dropout: float = 0.0
    warmup: int = 10
    init: str = "xavier"
    gate: bool = False
    augment: bool = False
    width: int = 8
    precision: str = "single"


class Part(nn.Module):
    """Adds its weight to the stream."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.inner(x * self.weight)


class Model(nn.Module):
    """A stream with five parts."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(Part() for _ in range(5))

    def forward(self, x):
        self.last = [part(x) for part in self.parts]
        return x + sum(self.last)


class Analytic:
    """Collapses as `guilty` says, at `rate` of the runs; spread is about 1 without collapse and about 0 with it."""

    rate = 1.0

    def __init__(self, seed, knobs):
        self.seed, self.knobs = seed, knobs
        self.model = Model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0)

    def guilty(self):
        return False

    def batches(self, cursor):
        while True:
            yield torch.ones(3)

    def step(self, batch):
        if self.knobs.precision == "half" and not self.knobs.bias:
            raise RuntimeError("half precision needs a bias")
        loss = self.model(batch).sum()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def evaluate(self):
        chance = random.Random(f"{self.seed} {self.knobs}")
        collapsed = self.guilty() and chance.random() < self.rate
        value = (0.0 if collapsed else 1.0) + chance.gauss(0, 0.02)
        return {"spread": value, "error": 1 - value, "distance": float("nan") if collapsed else value}


class One(Analytic):
    def guilty(self):
        return self.knobs.norm == "none"


class Wide(Analytic):
    def guilty(self):
        return self.knobs.width == 16


class Noisy(One):
    rate = 0.6


class Together(Analytic):
    def guilty(self):
        return self.knobs.norm == "none" and self.knobs.lr > 0.5


class Independent(Analytic):
    def guilty(self):
        return self.knobs.norm == "none" or self.knobs.lr > 0.5


class Everywhere(Analytic):
    def guilty(self):
        return True


class PartTwo(Analytic):
    """Collapses where the third part says anything."""

    def guilty(self):
        self.model(torch.ones(3))
        return bool(self.model.last[2].any())


def _recipe(build):
    return Recipe(build=build, knobs=Knobs, metric="spread", margin=0.05, steps=STEPS)


one, wide, noisy, together, independent, none, everywhere, part_two = map(
    _recipe, (One, Wide, Noisy, Together, Independent, Analytic, Everywhere, PartTwo)
)
