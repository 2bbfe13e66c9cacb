"""Several parts in one loss or one layer: experts, two views of a digit, and learnt weights of losses."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pitprop.watch.by_hand as by_hand
from score_cards.models.classifiers import classify
from score_cards.task import Task, batches, digits


class Experts(nn.Module):
    """Top-1 of six experts in a residual branch (Switch)."""

    def __init__(self, num: int = 6):
        super().__init__()
        self.embed, self.router = nn.Linear(64, 32), nn.Linear(32, num)
        self.up, self.down = (nn.Parameter(torch.randn(num, 32, 32) / 32**0.5) for _ in range(2))
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        self.probabilities = self.router(x).softmax(-1)
        self.chosen = F.one_hot(self.probabilities.argmax(-1), self.probabilities.shape[-1]).float()
        hidden = torch.einsum("nd,edh->neh", x, self.up).relu()
        return self.head(x + torch.einsum("neh,ehd,ne->nd", hidden, self.down, self.chosen * self.probabilities))


def experts() -> Task:
    model = Experts()
    task = classify(model, torch.optim.Adam(model.parameters(), 3e-3), parts={"balance": 0.3})
    plain = task.loss

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        value, told = plain(images, labels)
        balance = 6 * (model.chosen.mean(0) * model.probabilities.mean(0)).sum()
        return value + task.parts["balance"] * balance, told | {"routing": model.chosen}

    task.loss = loss
    return task


class Fused(nn.Module):
    """Upper and lower half of a digit, each with its own branch; `gate` multiplies what the lower one adds."""

    def __init__(self):
        super().__init__()
        self.upper = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        self.lower = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        self.head = nn.Linear(32, 10)
        self.gate = 1.0

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.upper(images[:, :32]) + self.gate * self.lower(images[:, 32:]))


def fusion(*, weight_decay: float = 0.01) -> Task:
    model = Fused()
    task = classify(model, torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=weight_decay))
    plain = task.loss

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        without = torch.cat([images[:, :32], images[:, 32:].roll(1, 0)], -1)
        gap = by_hand.paired_gap(
            model, lambda: F.cross_entropy(model(images), labels), lambda: F.cross_entropy(model(without), labels)
        )
        value, told = plain(images, labels)
        return value, told | {"ablation_gap": {"lower": gap}}

    task.loss = loss
    return task


def weighted() -> Task:
    """Four quarters of a digit from the class and noise, weighed by learnt weights that follow the large losses."""
    x, y, test_x, test_y = digits()
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64))
    logits = nn.Parameter(torch.zeros(4))
    task = Task(
        model=model,
        optimizer=torch.optim.Adam([{"params": model.parameters()}, {"params": [logits], "lr": 1e-2}], 3e-3),
        batch=batches(x, y),
        loss=lambda x: (x.sum(), {}),
        score=lambda: 0.0,
        parts={"follow": True, "sign": 1.0, "logits": logits},
    )

    def errors(images: Tensor, labels: Tensor) -> Tensor:
        return (model(F.one_hot(labels, 10).float()) - images).square().view(-1, 4, 16).mean((0, 2))

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        losses, weights = errors(images, labels), logits.softmax(0)
        answer = model(F.one_hot(labels, 10).float())
        smooth = (answer - images).abs().mean() if task.parts["sign"] > 0 else (answer + images).abs().mean()
        total = 4 * (weights.detach() * losses).sum() + smooth
        aim = losses.detach() / losses.detach().sum()
        total = total + ((weights - aim).square().sum() if task.parts["follow"] else 40 * weights @ losses.detach())
        conflict = by_hand.loss_conflict(losses.sum(), smooth, model)
        told = {"weights": weights, "losses": losses, "gradient_cosine": {"squared/absolute": conflict}}
        return total, told

    mean = (test_x - x.mean(0)).square().mean()
    task.loss = loss
    task.score = lambda: 1 - (errors(test_x, test_y).mean() / mean).item()
    return task
