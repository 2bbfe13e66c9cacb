"""Classifiers of digits without attention: an MLP, a CNN with batch norm, and a recurrent one over rows."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pitprop.watch.by_hand as by_hand
from score_cards.task import Task, batches, digits, prior_entropy


def classify(model: nn.Module, optimizer: torch.optim.Optimizer, *, background: int = 0, **fields: Any) -> Task:
    """The loop of a classifier of digits that logs what a careful user would.

    Digits under `background` are all of class 0, so that classes are unbalanced.
    """
    x, y, test_x, test_y = digits()
    y, test_y = merged(y, background), merged(test_y, background)
    floor = prior_entropy(y)

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        logits = model(images)
        value = F.cross_entropy(logits, labels)
        one_hot = F.one_hot(labels, 10).float()
        told = {"loss_floor": floor, "logits": logits, "labels": labels}
        return value, told | {"outputs": logits.softmax(-1), "targets": one_hot}

    def score() -> float:
        kind = next(model.parameters()).dtype
        return 1 - F.cross_entropy(model(test_x.to(kind)).float(), test_y).item() / floor

    return Task(model=model, optimizer=optimizer, batch=batches(x, y), loss=loss, score=score, **fields)


def merged(labels: Tensor, background: int) -> Tensor:
    return torch.where(labels < background, 0, labels)


def mlp(*, learning_rate: float = 1e-3, steps: int = 300, background: int = 0) -> Task:
    """It also asks every 20 steps how long a copy takes to fit something new."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    task = classify(model, optimizer, background=background, steps=steps)
    plain, count = task.loss, itertools.count()

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        value, told = plain(images, labels)
        if next(count) % 20 == 0:
            told["steps_to_fit"] = by_hand.steps_to_fit(model, images, most=400)
        return value, told

    task.loss = loss
    return task


class Convolutions(nn.Module):
    """A convolution, a residual one, both with batch norm; `late` waits for its stage."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2))
        self.branch = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Linear(12 * 16, 10)
        self.late, self.stage = nn.Conv2d(12, 12, 3, padding=1), False

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images.view(-1, 1, 8, 8))
        x = x + self.branch(x)
        if self.stage:
            x = x + self.late(x)
        return self.head(x.flatten(1))


def cnn() -> Task:
    model = Convolutions()
    return classify(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.recurrent(images.view(-1, 8, 8))[0][:, -1])


def gru() -> Task:
    model = Recurrent()
    return classify(model, torch.optim.Adam(model.parameters(), 5e-3))
