"""Optimizer steps on gradients that are all zero.

## What it detects
Among eight training steps, updates whose every gradient is exactly zero (not None), between updates with gradients:
failure for an optimizer with memory (Adam, momentum), warning for one without.

## Why it matters
Accumulation in the wrong place does this: the gradient is held back and the optimizer steps all the same. Adam takes
the zeros for data: its averages shrink, it moves on by momentum, and three of four steps are not the ones that were
meant.

## Reads
Eight steps of a recipe, which are undone.

## Threshold
None: the gradients are exactly zero or they aren't.

## When it is wrong
A batch without a loss on purpose (all targets masked). Optimizers over parts that rest in turn have no gradient rather
than zero ones, and are not reported.

## Remedies
Step only when the sum is complete; in optax `MultiSteps` around the whole chain, not `apply_every` before Adam.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model = nn.Linear(4, 1)
>>> optimizer = torch.optim.Adam(model.parameters())
>>> calls = []
>>> def step(x):
...     calls.append(None)
...     (model(x).square().mean() * (len(calls) % 4 == 0)).backward()
...     optimizer.step()
...     optimizer.zero_grad()
>>> subject = Subject(model=model, batches=(torch.randn(8, 4),), optimizers=(optimizer,), step=step)
>>> [finding.message for finding in CHECK.run(subject)]
['Adam steps on gradients that are all zero in 6 of 8 updates; its averages take the zeros for data.']

## References
Claim S3-C23 of the survey and experiment k1: displacement 0.187 instead of 0.092. Documentation of
`optax.apply_every`.
"""

from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, found
from pitprop.checks._steps import updates
from pitprop.records import RUN, Finding, Severity


@dataclass(frozen=True, kw_only=True)
class ZeroGradientUpdate:
    """Updates without a gradient, by an optimizer that remembers."""

    name: ClassVar[str] = "zero-gradient-update"
    needs: ClassVar[tuple[str, ...]] = ("batches", "optimizers", "step")

    def run(self, subject: Subject) -> list[Finding]:
        findings = []
        for index, row in updates(subject).items():
            empty = [_is_empty(update.gradients) for update in row]
            if not any(empty) or all(empty):
                continue  # all of them: the checks of gradients say why
            optimizer = subject.optimizers[index]
            kind = type(optimizer).__name__
            remembers = kind not in ("SGD", "ASGD") or any(g.get("momentum") for g in optimizer.param_groups)
            severity: Severity = "failure" if remembers else "warning"
            meaning = "its averages take the zeros for data" if remembers else "these steps do nothing"
            message = f"{kind} steps on gradients that are all zero in {sum(empty)} of {len(row)} updates; {meaning}."
            evidence = {"num_empty": sum(empty), "num_updates": len(row)}
            findings.append(found(self.name, severity, RUN, message, evidence))
        return findings


def _is_empty(gradients: dict[str, bool | None]) -> bool:
    there = [some for some in gradients.values() if some is not None]
    return bool(there) and not any(there)


CHECK = ZeroGradientUpdate()
