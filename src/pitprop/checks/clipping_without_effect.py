"""Gradient clipping that touches no gradient which is used.

## What it detects
Over eight training steps, clipping that always comes before the backward pass: on no gradients, on zeroed ones, or on
those of the update before (failure). A bound that is infinite, or over ten times the largest norm seen (note).

## Why it matters
Clipping in the wrong line raises nothing and clips nothing; the run trusts a guard that isn't there. A bound far above
every norm is one too: 1.0 against norms of at most 0.5 was "the critical fix" of one project of the survey.

## Reads
Eight steps of a recipe, which are undone: calls of torch's `clip_grad_norm_`, `clip_grads_with_norm_` and
`clip_grad_value_` (also by way of Lightning or accelerate, which call these), when gradients arrive, and when
optimizers step.

## Threshold
The order of events is exact. Ten times is a convention; the first steps tell little about later spikes, hence a note.

## When it is wrong
An infinite bound is a common way to only measure the norm. Clipping by other means is not seen, right or wrong: written
out by hand, inside an optimizer (LAMB, Adafactor), as a hook of a parameter or an optimizer, adaptive (AGC), by
DeepSpeed or FSDP's own method. The silence of this check says nothing about these.

## Remedies
`backward`, then clip, then `step`. `ClipGradient` tells in a trial whether a bound matters at all.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model = nn.Linear(4, 1)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> def step(x):
...     optimizer.zero_grad()
...     nn.utils.clip_grad_norm_(model.parameters(), 1.0)
...     model(x).square().mean().backward()
...     optimizer.step()
>>> subject = Subject(model=model, batches=(torch.randn(8, 4),), optimizers=(optimizer,), step=step)
>>> [(finding.severity, finding.site) for finding in CHECK.run(subject)]
[('failure', '<run>')]

## References
Pascanu, Mikolov and Bengio, arXiv 1211.5063. Claims S3-C8 and S3-C9 of the survey.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, found
from pitprop.checks._steps import Arrived, Clipped, Updated, watch_steps
from pitprop.records import RUN, Finding


@dataclass(frozen=True, kw_only=True)
class ClippingWithoutEffect:
    """Clipping in the wrong place, or out of reach."""

    name: ClassVar[str] = "clipping-without-effect"
    needs: ClassVar[tuple[str, ...]] = ("batches", "optimizers", "step")

    far: float = 10.0
    """Bound over the largest norm, from which on the bound is out of reach."""

    def run(self, subject: Subject) -> list[Finding]:
        good: list[Clipped] = []
        waiting: Clipped | None = None
        fresh = False
        updates = misplaced = 0
        for event in watch_steps(subject):
            if isinstance(event, Arrived):
                fresh = True
            elif isinstance(event, Clipped):
                if fresh and event.norm != 0:
                    good.append(event)
                else:
                    waiting = event
            elif isinstance(event, Updated):
                updates += 1
                misplaced += waiting is not None
                waiting, fresh = None, False
        if misplaced and not good:
            message = (
                f"clipping meets no gradient that is used in {misplaced} of {updates} updates: it stands before the "
                "backward pass, or behind `zero_grad`."
            )
            return [found(self.name, "failure", RUN, message, {"num_updates": updates}, ("ClipGradient",))]
        norms = [event.norm for event in good if math.isfinite(event.norm)]
        bound = min((event.bound for event in good), default=math.nan)
        if norms and bound > self.far * max(norms):
            message = f"clipping at {bound:g} never acts: the largest of {len(norms)} calls met {max(norms):.3g}."
            evidence = {"bound": bound, "largest_norm": max(norms)}
            return [found(self.name, "note", RUN, message, evidence, ("ClipGradient",))]
        return []


CHECK = ClippingWithoutEffect()
