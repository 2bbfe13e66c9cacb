"""A term of the loss that is nothing at every step.

## What it detects
A number whose name ends in `loss`, beside `loss` itself, in what a training step returns: where it is 0, or so small
that adding it to the loss changes no bit, at every one of the steps made (warning).

## Why it matters
The paper has the term, the code computes it, the curve is in the log, and it trains nothing: what it compares is equal
by construction, a mask hides everything, or an input was detached and replaced by itself. A system of the survey
trained an equivariance loss for months that turned feature maps whose mean no turn can change.

## Reads
What `step` returns, over eight whole steps that are undone.

## Threshold
None: `loss + term == loss` in float32. A term that is absent or NaN at a step isn't measured there; two steps with a
number are needed.

## When it is wrong
A hinge that is already satisfied, a divergence that starts at its optimum and stays for eight steps. A term that is
switched off should be left out of what the step returns, or be NaN: 0 says that it was measured. One that counts from a
later epoch on is seen only if the check is run with a configuration in which it counts. A term that is large and has no
gradient is not seen here.

## Remedies
None by itself: a term that trains nothing can be left out, or computed from what differs.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model, x = nn.Linear(4, 2), torch.randn(8, 4)
>>> def step(x):
...     y = model(x)
...     turned = y.flip(0)
...     return {"loss": y.square().mean(), "symmetry_loss": (y.mean(0) - turned.mean(0)).square().mean()}
>>> [finding] = CHECK.run(Subject(model=model, batches=(x,), step=step))
>>> finding.severity, finding.evidence["num_steps"]
('warning', 8.0)

## References
The equivariance loss of the system behind the case `grid_solver` (`equivariance_loss(of_features=True)`).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pitprop.checks._check import Subject, found
from pitprop.checks._steps import Returned, watch_steps
from pitprop.records import RUN, Finding

FEWEST = 2
"""Steps with a number: one could be an accident of the batch."""


@dataclass(frozen=True, kw_only=True)
class LossTermZero:
    """Terms that change no bit of the loss."""

    name: ClassVar[str] = "loss-term-zero"
    needs: ClassVar[tuple[str, ...]] = ("batches", "step")

    def run(self, subject: Subject) -> list[Finding]:
        terms: dict[str, list[tuple[float, float]]] = {}
        for event in watch_steps(subject):
            numbers = event.numbers if isinstance(event, Returned) else {}
            total = numbers.get("loss", math.nan)
            for name, value in numbers.items():
                if name != "loss" and name.lower().endswith("loss") and math.isfinite(total) and math.isfinite(value):
                    terms.setdefault(name, []).append((value, total))
        return [
            found(
                self.name,
                "warning",
                RUN,
                f"`{name}` is {_size(pairs)} at each of {len(pairs)} steps, beside a loss of {pairs[0][1]:.3g}: "
                "it trains nothing.",
                {"largest": max(abs(value) for value, _ in pairs), "num_steps": len(pairs)},
            )
            for name, pairs in terms.items()
            if len(pairs) >= FEWEST
            and all(np.float32(total) + np.float32(v) == np.float32(total) for v, total in pairs)
        ]


def _size(pairs: list[tuple[float, float]]) -> str:
    largest = max(abs(value) for value, _ in pairs)
    return f"at most {largest:.1g}" if largest else "0"


CHECK = LossTermZero()
