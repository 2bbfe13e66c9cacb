"""Recipes of a few milliseconds whose answer is known: which knob, if any, makes every output the same."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from pitprop.trials import Recipe

STEPS = 100


@dataclass(frozen=True)
class Knobs:
    pool: Literal["batch", "none"] = "batch"
    """`batch` averages over the batch, so that every input gets one answer: the guilty one."""
    activation: Literal["tanh", "relu"] = "tanh"
    bias: bool = True
    width: int = 8
    failing: str = ""
    """What goes wrong: "raise", "die", "die once <file>", "hang", "slow", "nan", "short", "no metric", "pool nan"; or
    what `step` ("None", "text") or `evaluate` ("list", "word") returns against the contract."""


class Pool(nn.Module):
    """Mean over the batch."""

    def forward(self, x):
        return x.mean(0, keepdim=True).expand_as(x)


class Regression:
    """Linear targets from eight numbers, by one hidden layer."""

    always_pooled = False

    def __init__(self, seed: int, knobs: Knobs):
        torch.manual_seed(seed)
        self.knobs, self.seed = knobs, seed
        self.answer = torch.randn(8, 3)
        pooled = self.always_pooled or knobs.pool == "batch"
        self.model = nn.Sequential(
            nn.Linear(8, knobs.width, bias=knobs.bias),
            nn.Tanh() if knobs.activation == "tanh" else nn.ReLU(),
            Pool() if pooled else nn.Identity(),
            nn.Linear(knobs.width, 3),
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.held_out = self.make(-1)

    def make(self, index):
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1000 * self.seed + index + 1))
        return x, x @ self.answer

    def batches(self, cursor):
        while self.knobs.failing != "short" or cursor < 3:
            yield self.make(cursor)
            cursor += 1

    def step(self, batch):
        what, _, file = self.knobs.failing.partition(" once ")
        if what == "raise":
            raise RuntimeError("the arm is broken")
        if what == "die" and not (file and Path(file).exists()):
            Path(file or os.devnull).touch()
            os._exit(9)
        time.sleep({"hang": 600, "slow": 0.002}.get(what, 0))
        x, y = batch
        out = self.model(x)
        loss = nn.functional.mse_loss(out, y)
        if what == "nan" or (what == "pool nan" and self.knobs.pool == "batch"):
            loss = loss * float("nan")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if what in ("None", "text"):
            return None if what == "None" else {"loss": loss.detach(), "note": "hello"}
        return {"loss": loss.detach(), "outputs": out.detach(), "targets": y}

    def evaluate(self):
        if self.knobs.failing == "no metric":
            return {}
        if self.knobs.failing in ("list", "word"):
            return [1.0] if self.knobs.failing == "list" else {"spread": "wide"}
        x, y = self.held_out
        with torch.no_grad():
            out = self.model(x)
        torch.rand(1)  # an evaluation that draws must not disturb the run
        return {"spread": torch.cdist(out, out).mean() / torch.cdist(y, y).mean(), "loss": (out - y).square().mean()}


class Always(Regression):
    """Collapsed whatever the knobs say."""

    always_pooled = True


class Silent(nn.Sequential):
    """Never calls its last module."""

    def forward(self, x):
        return nn.Sequential(*self[:-1])(x)


class Spare(Regression):
    """Has a module `4` that the forward pass leaves out."""

    def __init__(self, seed: int, knobs: Knobs):
        super().__init__(seed, knobs)
        self.model = Silent(*self.model, nn.Linear(3, 3))


@dataclass(frozen=True)
class Healthy(Knobs):
    pool: Literal["batch", "none"] = "none"


@dataclass(frozen=True)
class Poisoned(Knobs):
    failing: str = "pool nan"
    activation: str = "tanh"
    bias: int = 1


@dataclass(frozen=True)
class Innocent(Knobs):
    pool: str = "batch"  # declares no alternative


def means():
    return {"the mean": {"spread": torch.tensor(0.0), "loss": float("nan")}}


def _recipe(build, knobs):
    return Recipe(
        build=build, knobs=knobs, metric="spread", margin=0.05, steps=STEPS, guards=("loss",), references=means
    )


poisoned = _recipe(Regression, Poisoned)
guilty = _recipe(Regression, Knobs)
healthy = _recipe(Regression, Healthy)
hopeless = _recipe(Always, Innocent)
spare = _recipe(Spare, Knobs)
directed = Recipe(build=Regression, knobs=Knobs, metric="spread", margin=0.05, steps=STEPS, guards=("loss=lower",))


class Classes(Regression):
    """The largest of the three answers as a class; its loop knows logits and labels."""

    def step(self, batch):
        x, y = batch
        logits, labels = self.model(x), y.argmax(1)
        loss = nn.functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "logits": logits.detach(), "labels": labels}


classes = _recipe(Classes, Healthy)


class Untrained(Regression):
    """`pool=none` answers with the targets themselves: nothing is left to train."""

    def __init__(self, seed: int, knobs: Knobs):
        super().__init__(seed, knobs)
        if knobs.pool == "none":
            self.model, self.optimizer = nn.Identity(), None

    def step(self, batch):
        return super().step(batch) if self.optimizer else {"loss": torch.zeros(())}

    def evaluate(self):
        return super().evaluate() if self.optimizer else {"spread": 1.0, "loss": 0.0}


untrained = _recipe(Untrained, Knobs)
