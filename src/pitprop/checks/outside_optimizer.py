"""Parameters that ask for a gradient and are in no optimizer, and the other way round.

## What it detects
Parameters with `requires_grad` that no optimizer holds (warning; failure when that is all of them), and frozen
parameters that an optimizer holds (note).

## Why it matters
A parameter outside every optimizer gets gradients and never moves: nothing looks wrong, and nothing is learned there.
The usual ways to it are modules made after the optimizer, an optimizer over one part, and a model replaced afterwards.

## Reads
The model and its optimizer or optimizers. No batch, no forward pass.

## Threshold
None: membership is exact, by identity of the tensor.

## When it is wrong
A base that is meant to stay frozen and isn't marked so; parameters that another optimizer, not given here, holds; an
optimizer that is filled later. Frozen parameters in an optimizer cost memory and nothing else, as long as they have no
gradient, and staged training does it on purpose.

## Remedies
Give the optimizer the missing parameters (`add_param_group`), or say `requires_grad_(False)`. `Freeze` shows in a trial
whether it matters.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model = nn.ModuleDict({"body": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
>>> optimizer = torch.optim.SGD(model["head"].parameters(), lr=0.1)
>>> [(finding.severity, finding.site) for finding in CHECK.run(Subject(model=model, optimizers=(optimizer,)))]
[('warning', 'body')]

## References
Catalogue of failure modes, mode 11 (adapters that never wake).
"""

from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, common, found, some
from pitprop.records import Finding, Severity


@dataclass(frozen=True, kw_only=True)
class OutsideOptimizer:
    """Parameters that are trained by nobody."""

    name: ClassVar[str] = "outside-optimizer"
    needs: ClassVar[tuple[str, ...]] = ("optimizers",)

    def run(self, subject: Subject) -> list[Finding]:
        held = {id(p) for one in subject.optimizers for group in one.param_groups for p in group["params"]}
        parameters = dict(subject.model.named_parameters())
        trainable = {name for name, p in parameters.items() if p.requires_grad}
        outside = [name for name in parameters if name in trainable and id(parameters[name]) not in held]
        frozen = [name for name in parameters if name not in trainable and id(parameters[name]) in held]
        findings = []
        if outside:
            everything = len(outside) == len(trainable)
            seen = f"{_counted(outside)} of {len(trainable)} trainable parameters are in no optimizer"
            meaning = "no step will change the model" if everything else "they get gradients and never move"
            severity: Severity = "failure" if everything else "warning"
            findings.append(self._finding(severity, outside, parameters, seen, meaning))
        if frozen:
            meaning = "they stay as they are unless something unfreezes them"
            seen = f"{_counted(frozen)}: frozen, but in an optimizer"
            findings.append(self._finding("note", frozen, parameters, seen, meaning))
        return findings

    def _finding(self, severity: Severity, names: list[str], parameters: dict, seen: str, meaning: str) -> Finding:
        site = common(names)
        evidence = {"num_tensors": len(names), "num_elements": sum(parameters[name].numel() for name in names)}
        return found(self.name, severity, site, f"{seen} at {site}; {meaning}.", evidence, ("Freeze",))


def _counted(names: list[str]) -> str:
    return f"{len(names)} ({some(names)})"


CHECK = OutsideOptimizer()
