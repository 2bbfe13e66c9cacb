"""Classifiers of digits without attention: an MLP, a CNN with batch norm, and a recurrent one over rows."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from score_cards.task import Task, batches, digits, prior_entropy


def classify(model: nn.Module, optimizer: torch.optim.Optimizer, **fields: Any) -> Task:
    """The loop of a classifier of digits that logs what a careful user would."""
    x, y, _, _ = digits()
    floor = prior_entropy(y)

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        logits = model(images)
        value = F.cross_entropy(logits, labels)
        one_hot = F.one_hot(labels, 10).float()
        told = {"loss_floor": floor, "logits": logits, "labels": labels}
        return value, told | {"outputs": logits.softmax(-1), "targets": one_hot}

    return Task(model=model, optimizer=optimizer, batch=batches(x, y), loss=loss, score=explained(model), **fields)


def explained(model: nn.Module) -> Callable[[], float]:
    """1 - held-out cross-entropy over the entropy of the labels."""
    _, y, test_x, test_y = digits()
    floor = prior_entropy(y)

    def score() -> float:
        kind = next(model.parameters()).dtype
        return 1 - F.cross_entropy(model(test_x.to(kind)).float(), test_y).item() / floor

    return score


def mlp(*, learning_rate: float = 1e-3, steps: int = 300) -> Task:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return classify(model, torch.optim.Adam(model.parameters(), learning_rate), steps=steps)


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
