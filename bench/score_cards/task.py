"""What is trained: a model with its loop's parts, each of which a fault may replace while it runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

BATCH = 64
TEXT = Path(__file__).parents[2] / "LICENSE"


@dataclass(kw_only=True)
class Task:
    """One training. The loop in `run.py` draws a batch, asks for its loss, steps, and calls `after`."""

    model: Any
    """An `nn.Module`, whose parts faults reach by name."""
    optimizer: torch.optim.Optimizer
    batch: Callable[[], tuple[Tensor, ...]]
    """The next training batch."""
    loss: Callable[..., tuple[Tensor, dict[str, Any]]]
    """Of a batch: what is minimised, and what the loop logs beside it."""
    score: Callable[[], float]
    """On held-out data: 1 is perfect, 0 is the best answer that ignores the input (or chance)."""
    steps: int = 300
    """Length of a run, healthy or not."""
    after: Callable[[], None] = lambda: None
    """Runs when the optimizer has stepped (schedules, averages, codebooks)."""
    parts: dict[str, Any] = field(default_factory=dict)
    """Other things of this training that a fault needs to reach, by name."""

    def draw_as(self, change: Callable[..., tuple[Tensor, ...]]) -> None:
        """From now on batches are changed by `change`."""
        draw = self.batch
        self.batch = lambda: change(*draw())

    def lose_as(self, change: Callable[[Tensor], Tensor]) -> None:
        """From now on the loss is changed by `change`."""
        loss = self.loss

        def changed(*batch: Tensor) -> tuple[Tensor, dict[str, Any]]:
            value, told = loss(*batch)
            return change(value), told

        self.loss = changed

    def learning_rate(self, factor: float) -> None:
        """Multiply it, for all groups."""
        for group in self.optimizer.param_groups:
            group["lr"] *= factor


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1500 training images `[sample, 64]` in [0, 1] with labels, and 297 held out (UCI digits, in scikit-learn)."""
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    images, labels = torch.tensor(x, dtype=torch.float32)[order] / 16, torch.tensor(y)[order]
    return images[:1500], labels[:1500], images[1500:], labels[1500:]


@cache
def text() -> tuple[Tensor, Tensor, int]:
    """Our licence as characters: nine tenths to train, a tenth held out, and the number of different ones."""
    data = TEXT.read_text(encoding="utf-8")
    letters = sorted(set(data))
    codes = torch.tensor([letters.index(c) for c in data])
    split = len(codes) * 9 // 10
    return codes[:split], codes[split:], len(letters)


def batches(*arrays: Tensor, size: int = BATCH) -> Callable[[], tuple[Tensor, ...]]:
    """Draws samples of `arrays` with replacement, from torch's generator."""

    def draw() -> tuple[Tensor, ...]:
        chosen = torch.randint(len(arrays[0]), (size,))
        return tuple(array[chosen] for array in arrays)

    return draw


def prior_entropy(labels: Tensor) -> float:
    """Cross-entropy of the best answer that ignores the input, in nats."""
    share = torch.bincount(labels.flatten()) / labels.numel()
    return float(torch.special.entr(share).sum())


def nearest_neighbour(embeddings: Tensor, labels: Tensor) -> float:
    """Leave-one-out accuracy of the nearest neighbour among `embeddings`, from chance (0) to perfect (1)."""
    if not embeddings.isfinite().all():
        return 0.0
    distance = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf)
    accuracy = (labels[distance.argmin(1)] == labels).float().mean().item()
    return (accuracy - 0.1) / 0.9
