"""The five models of `check_models.ACCEPTANCE` as recipes, for `pitprop check` as a user types it."""

from dataclasses import dataclass
from itertools import count

import torch
from check_models import ACCEPTANCE

from pitprop import Recipe


@dataclass(frozen=True)
class Knobs:
    model: str = "GPT"


class Training:
    def __init__(self, seed, knobs):
        torch.manual_seed(seed)
        make, self.batch, self.loss_fn = ACCEPTANCE[knobs.model]
        self.model = make()
        self.optimizer = torch.optim.AdamW(p for p in self.model.parameters() if p.requires_grad)

    def batches(self, cursor):
        for number in count(cursor):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(number)
                batch = self.batch()
            yield batch

    def step(self, batch):
        loss = self.loss_fn(self.model, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def evaluate(self):
        return {"loss": float(self.loss_fn(self.model, next(iter(self.batches(10**6)))))}


recipe = Recipe(build=Training, knobs=Knobs, metric="loss", higher_is_better=False)
