"""Recipes for the fork: one with everything that has state, and ones that cannot be forked."""

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from pitprop.trials import Recipe

DATA = TensorDataset(torch.linspace(-1, 1, 40 * 6).reshape(40, 6), torch.linspace(0, 1, 40).reshape(40, 1))
PER_EPOCH = 5
HIDDEN = torch.Generator().manual_seed(0)
"""State that nobody captures."""


@dataclass(frozen=True)
class Knobs:
    lr: float = 0.01


class Full:
    """Adam, dropout, batch norm, EMA, two schedulers, a shuffling loader, and noise from three private generators."""

    def __init__(self, seed: int, knobs: Knobs):
        torch.manual_seed(seed)
        self.seed = seed
        self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=knobs.lr)
        self.schedules = {
            "steps": torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 7]),
            "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 50),
        }
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        self.noise = [np.random.default_rng(seed), random.Random(seed), torch.Generator().manual_seed(seed)]

    def batches(self, cursor):
        while True:
            epoch, skip = divmod(cursor, PER_EPOCH)
            shuffle = torch.Generator().manual_seed(1000 * self.seed + epoch)
            for index, batch in enumerate(DataLoader(DATA, batch_size=8, shuffle=True, generator=shuffle)):
                if index >= skip:
                    yield batch
                    cursor += 1

    def step(self, batch):
        x, y = batch
        shift = self.noise[0].normal() + self.noise[1].random() + torch.rand((), generator=self.noise[2])
        # The global generators of numpy and python count too.
        shift = shift + np.random.rand() + random.random()  # noqa: NPY002
        loss = nn.functional.mse_loss(self.model(x + 0.01 * shift), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.ema.update_parameters(self.model)
        for schedule in self.schedules.values():
            schedule.step()
        return {"loss": loss.detach()}

    def evaluate(self):
        self.ema.eval()
        with torch.no_grad():
            return {"loss": nn.functional.mse_loss(self.ema(DATA.tensors[0]), DATA.tensors[1])}


class OwnState(Full):
    """The same, saying itself what its state is."""

    def state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "schedules": [s.state_dict() for s in self.schedules.values()],
            "noise": np.array([self.noise[0].random()]),
        }

    def load_state(self, state):
        self.model.load_state_dict(state["model"])


class HiddenGenerator(Full):
    """Draws noise from a generator of the module."""

    def step(self, batch):
        x, y = batch
        return super().step((x + torch.rand((), generator=HIDDEN), y))


class HiddenCounter(Full):
    """Keeps a plain number outside of every state_dict."""

    count = 0

    def step(self, batch):
        self.count += 1
        return super().step((batch[0] * (1 + self.count), batch[1]))


class LateCounter(Full):
    """Keeps a plain number that acts only when it has come far, as a schedule of one's own does."""

    count = 0

    def step(self, batch):
        self.count += 1
        out = super().step(batch)
        if self.count > 10:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.zero_()
        return out


class IgnoresCursor(Full):
    """Begins at batch 0, whatever the cursor."""

    def batches(self, cursor):
        return super().batches(0)


def _recipe(kind):
    return Recipe(build=kind, knobs=Knobs, metric="loss", higher_is_better=False, steps=12)


full, own_state = _recipe(Full), _recipe(OwnState)
hidden_generator, hidden_counter, ignores_cursor = map(_recipe, (HiddenGenerator, HiddenCounter, IgnoresCursor))
late_counter = _recipe(LateCounter)
