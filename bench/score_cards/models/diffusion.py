"""A DiT with adaLN-Zero that learns a flow to digits, given their class; with an average of its weights."""

import copy
import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pitprop.watch.by_hand as by_hand
from pitprop.watch.ema import ema_drift
from score_cards.models.transformers import WIDTH, Attention, patches, unpatch
from score_cards.task import Task, batches, digits

DECAY = 0.95


class Modulated(nn.Module):
    """A block whose norms and gates come from the condition; all of them begin at zero (Peebles and Xie)."""

    def __init__(self):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(WIDTH, elementwise_affine=False), Attention()
        self.norm2 = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.modulation = nn.Linear(WIDTH, 6 * WIDTH)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(F.silu(c))[:, None].chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.position = nn.Linear(4, WIDTH), nn.Parameter(0.1 * torch.randn(16, WIDTH))
        self.label, self.time = nn.Embedding(10, WIDTH), nn.Sequential(nn.Linear(2, WIDTH), nn.SiLU())
        self.blocks = nn.ModuleList(Modulated() for _ in range(2))
        self.norm, self.out = nn.LayerNorm(WIDTH, elementwise_affine=False), nn.Linear(WIDTH, 4)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, noisy: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        c = self.label(labels) + self.time(torch.cat([t, t.square()], -1))
        x = self.patch(patches(noisy)) + self.position
        for block in self.blocks:
            x = block(x, c)
        return unpatch(self.out(self.norm(x)))


def dit() -> Task:
    x, y, test_x, test_y = digits()
    model = Flow()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)

    def flow_loss(network: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        clean = 2 * images - 1
        return F.mse_loss(network((1 - t) * noise + t * clean, t, labels), clean - noise)

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        noise, t = torch.randn_like(images), torch.rand(len(images), 1)
        plain = functools.partial(flow_loss, model, images, noise=noise, t=t)
        with torch.no_grad():
            told = {
                "condition_gap": by_hand.paired_gap(model, lambda: plain(labels), lambda: plain(labels.roll(1, 0))),
                "ema_loss": flow_loss(average, *validation),
                "trained_loss": flow_loss(model, *validation),
                "ema_decay": DECAY,
                "ema_drift": ema_drift(model, average),
            }
        return plain(labels), told

    fixed = torch.Generator().manual_seed(0)
    noise, t = torch.randn(test_x.shape, generator=fixed), torch.rand(len(test_x), 1, generator=fixed)
    validation = (test_x[:64], test_y[:64], noise[:64], t[:64])

    def held_out(labels: Tensor) -> float:
        return flow_loss(model, test_x, labels, noise, t).item() / (2 * test_x - 1 - noise).var().item()

    task = Task(model=model, optimizer=optimizer, batch=batches(x, y), loss=loss, score=lambda: 1 - held_out(test_y))
    task.parts = {"average": average, "follow": True, "held_out": held_out}

    def follow() -> None:
        if task.parts["follow"]:
            with torch.no_grad():
                for old, new in zip(average.parameters(), model.parameters(), strict=True):
                    old.lerp_(new, 1 - DECAY)

    task.after = follow
    return task
