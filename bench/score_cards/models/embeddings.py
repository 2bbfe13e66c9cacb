"""Embeddings of digits without labels: contrastive, and a student of its own average."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from score_cards.task import Task, batches, digits, nearest_neighbour


def view(images: Tensor) -> Tensor:
    """A digit as somebody else would have scanned it: shifted by up to a pixel, with noise."""
    down, right = (int(n) for n in torch.randint(-1, 2, (2,)))
    return images.view(-1, 8, 8).roll((down, right), (1, 2)).flatten(1) + 0.1 * torch.randn_like(images)


def network(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, width))


def contrastive(*, steps: int = 300) -> Task:
    x, _, test_x, test_y = digits()
    model = network(32)
    task = Task(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), 3e-3),
        batch=batches(x, size=128),
        loss=lambda x: (x.sum(), {}),
        score=lambda: nearest_neighbour(F.normalize(model(test_x), dim=-1), test_y),
        steps=steps,
        parts={"repulsion": 1.0, "dimensions": 32},
    )

    def loss(images: Tensor) -> tuple[Tensor, dict[str, Any]]:
        a, b = (F.normalize(model(view(images)) * mask(), dim=-1) for _ in range(2))
        apart = torch.logsumexp(a @ b.T / 0.2, -1).mean() * 0.2
        value = -(a * b).sum(-1).mean() + task.parts["repulsion"] * apart
        return value, {"embeddings": a}

    def mask() -> Tensor:
        return (torch.arange(32) < task.parts["dimensions"]).float()

    task.loss = loss
    task.parts["embed"] = lambda: F.normalize(model(test_x) * mask(), dim=-1)
    return task


def distilled() -> Task:
    x, _, test_x, test_y = digits()
    student = network(32)
    teacher = copy.deepcopy(student).requires_grad_(False)
    with torch.no_grad():  # not zero, which for outputs with an offset makes every first target the same prototype
        centre = teacher(x).mean(0)
    task = Task(
        model=student,
        optimizer=torch.optim.Adam(student.parameters(), 1e-3),
        batch=batches(x, size=128),
        loss=lambda x: (x.sum(), {}),
        score=lambda: nearest_neighbour(student(test_x), test_y),
        parts={"temperature": 0.04, "teacher": teacher, "centre": centre},
    )

    def loss(images: Tensor) -> tuple[Tensor, dict[str, Any]]:
        with torch.no_grad():
            out = teacher(view(images))
            targets = ((out - centre) / task.parts["temperature"]).softmax(-1)
            centre.lerp_(out.mean(0), 0.1)
        value = -(targets * (student(view(images)) / 0.1).log_softmax(-1)).sum(-1).mean()
        return value, {"teacher": targets}

    def after() -> None:
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.lerp_(new, 0.004)  # DINO's 0.996; a teacher of the last 20 steps collapses with its student

    task.loss, task.after = loss, after
    return task
