"""Set prediction like DETR: two digits somewhere in five places; learnt queries say what is where, or nothing."""

from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from score_cards.models.transformers import WIDTH, Attention, Block
from score_cards.task import Task, digits

PLACES, DIGITS, QUERIES, NOTHING = 5, 2, 6, 10


class Detector(nn.Module):
    """Five places (tokens), one encoder block, six queries that look at them."""

    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Linear(64, WIDTH), nn.Parameter(torch.randn(PLACES, WIDTH))
        self.encoder = Block()
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH))
        self.norm1, self.cross = nn.LayerNorm(WIDTH), Attention()
        self.decoder = Block()
        self.norm2, self.kind, self.place = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 11), nn.Linear(WIDTH, PLACES)

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.encoder(self.embed(places) + self.position)
        q = self.queries.expand(len(places), -1, -1)
        q = self.norm2(self.decoder(q + self.cross(self.norm1(q), memory)))
        return self.kind(q), self.place(q)


def scenes(images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """`[scene, place, 64]`, and of the two digits in each their kinds and places."""
    chosen = torch.randint(len(images), (number, DIGITS))
    where = torch.rand(number, PLACES).argsort(1)[:, :DIGITS]
    canvas = torch.zeros(number, PLACES, 64)
    canvas.scatter_(1, where[..., None].expand(-1, -1, 64), images[chosen])
    return canvas, labels[chosen], where


def detr() -> Task:
    x, y, test_x, test_y = digits()
    model = Detector()

    def match(cost: Tensor) -> Tensor:
        return torch.stack([torch.as_tensor(linear_sum_assignment(c.T)[1]) for c in cost.numpy()])

    task = Task(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), 3e-3),
        batch=lambda: scenes(x, y, 32),
        loss=lambda x: (x.sum(), {}),
        score=lambda: 0.0,
        parts={"match": match, "background": 1.0},
    )

    def loss(canvas: Tensor, kinds: Tensor, where: Tensor) -> tuple[Tensor, dict[str, Any]]:
        kind, place = model(canvas)
        of_kind = kind.log_softmax(-1).gather(-1, kinds[:, None].expand(-1, QUERIES, -1))
        of_place = place.log_softmax(-1).gather(-1, where[:, None].expand(-1, QUERIES, -1))
        cost = -(of_kind + of_place)  # [scene, query, digit]
        matched = task.parts["match"](cost.detach())  # [scene, digit]
        labels = torch.full(kind.shape[:2], NOTHING)
        labels.scatter_(1, matched, kinds)
        weight = torch.ones(11)
        weight[NOTHING] = task.parts["background"]
        value = F.cross_entropy(kind.flatten(0, 1), labels.flatten(), weight=weight)
        value = value - of_place.gather(1, matched[:, None]).mean()
        return value, {"logits": kind, "labels": labels}

    def score() -> float:
        """Share of scenes' digits that some query names in their place; chance and misses count as 0."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            canvas, kinds, where = scenes(test_x, test_y, 200)
        kind, place = model(canvas)
        named, placed = kind.argmax(-1), place.argmax(-1)
        hit = (named[:, :, None] == kinds[:, None]) & (placed[:, :, None] == where[:, None])
        return hit.any(1).float().mean().item()

    task.loss, task.score = loss, score
    return task
