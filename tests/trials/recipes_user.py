"""A training with what real ones have: tied, bf16 and non-contiguous weights, buffers, a scheduler, a scaler, an EMA.

One blow at step 40 of one seed makes all outputs alike; going back helps.
"""

from dataclasses import dataclass

import torch
from recipes_rescue import Regression
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pitprop.trials import Recipe

STRUCK_SEED = 77


@dataclass(frozen=True)
class Knobs:
    width: int = 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.mix = nn.Parameter(torch.randn(3, 8).t() / 8)
        self.coarse = nn.Linear(8, 3, dtype=torch.bfloat16)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.squash = nn.Tanh()

    def forward(self, x):
        if self.training:
            self.seen += 1
        x = self.squash(self.second(self.squash(self.first(x))))
        return x @ self.mix + self.coarse(x.bfloat16()).float()


class Training(Regression):
    def __init__(self, seed: int, knobs):
        torch.manual_seed(seed)
        self.seed, self.knobs, self.blind = seed, knobs, False
        self.answer = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [50, 90], 0.5)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)

    def make(self, index, seed):
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1000 * seed + index))
        return x, x @ self.answer

    def step(self, batch):
        index, x, y = batch
        if self.seed == STRUCK_SEED and index == 40:
            with torch.no_grad():
                self.model.first.bias.add_(1e3)
        out = self.model(x)
        loss = nn.functional.mse_loss(out, y)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.ema.update_parameters(self.model)
        return {"loss": loss.detach(), "outputs": out.detach(), "targets": y}


recipe = Recipe(build=Training, knobs=Knobs, metric="spread", margin=0.05, steps=80)
