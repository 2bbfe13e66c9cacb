"""Updates that are lost in the resolution of the parameters.

## What it detects
Parameters of 16 bits of which more than half of the elements that have a gradient are the same after an update.

## Why it matters
bfloat16 resolves 0.4 %: an update under half of that, relative to the weight, changes nothing, step after step. The
loss falls at first and then stops early, as if the learning rate were zero.

## Reads
Eight steps of a recipe, which are undone. Float32 parameters under autocast are not at risk and not reported.

## Threshold
An element that has a gradient and doesn't move is exact. That a majority of them makes a warning is a convention.

## When it is wrong
During a warm-up the learning rate is small for now; an optimizer with stochastic rounding or Kahan summation of its own
moves by other means. Learning rates of exactly zero are left out.

## Remedies
Float32 master weights (autocast instead of a cast model), stochastic rounding, a Kahan buffer.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> def underflow(dtype):
...     model = nn.Linear(64, 64).to(dtype)
...     optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
...     def step(x):
...         optimizer.zero_grad()
...         model(x).float().square().mean().backward()
...         optimizer.step()
...     x = torch.randn(8, 64, dtype=dtype)
...     return CHECK.run(Subject(model=model, batches=(x,), optimizers=(optimizer,), step=step))
>>> [[f.severity for f in underflow(dtype)] for dtype in (torch.bfloat16, torch.float32)]
[['warning'], []]

## References
Zamirai et al., "Revisiting BFloat16 training", arXiv 2010.06192. Catalogue of failure modes, mode 36.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pitprop.checks._check import Subject, common, found, some
from pitprop.checks._steps import updates
from pitprop.records import Finding

SHORT = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class UpdateUnderflow:
    """Updates below half a unit in the last place."""

    name: ClassVar[str] = "update-underflow"
    needs: ClassVar[tuple[str, ...]] = ("batches", "optimizers", "step")

    majority: float = 0.5
    """Share of unmoved elements over which it is a warning."""

    def run(self, subject: Subject) -> list[Finding]:
        short = {name for name, p in subject.model.named_parameters() if p.dtype in SHORT}
        moving, stuck = dict.fromkeys(short, 0), dict.fromkeys(short, 0)
        for row in updates(subject).values() if short else ():
            for update in row:
                for name in short & update.moving.keys():
                    moving[name] += update.moving[name]
                    stuck[name] += update.stuck[name]
        lost = sorted(name for name in short if stuck[name] > self.majority * moving[name])
        if not lost:
            return []
        share = sum(stuck[n] for n in lost) / sum(moving[n] for n in lost)
        site = common(lost)
        message = (
            f"{share:.0%} of the elements with a gradient don't move in an update at {site} ({len(lost)} parameters of "
            f"16 bits: {some(lost)}): the update is under half of their resolution."
        )
        return [found(self.name, "warning", site, message, {"unmoved_share": share, "num_tensors": len(lost)})]


CHECK = UpdateUnderflow()
