"""Parameters that are frozen where their like, in the other blocks of the stack, are trained.

## What it detects
A stack of at least three numbered blocks in which a parameter asks for a gradient in most blocks and not in some, other
than the lowest ones (warning).

## Why it matters
A frozen parameter raises nothing and costs nothing: the others learn around it, and the result is a little worse. It is
what remains of an experiment, of a name filter that matched too much (`blocks.1` also matches `blocks.10`), or of a
block that was put in after the freezing.

## Reads
Names of the parameters and whether they ask for a gradient. No batch, no forward pass.

## Threshold
Exact, by names: those that differ in one number only, and are of one shape, are compared with each other. Freezing the
lowest blocks is how networks are fine-tuned, and freezing most of them (all but the last) is too: neither is reported.

## When it is wrong
Every other block is frozen on purpose; a stack of experts or tasks that takes turns. Freezing by mistake that follows
no stack isn't seen: a whole encoder, or the only embedding, may be meant. A frozen zero that holds a branch shut is
`dead-zero-chain`; frozen parameters in an optimizer, and trained ones in none, are `outside-optimizer`.

## Remedies
`requires_grad_(True)`, or freeze by module instead of by a part of a name.

## Example
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12)))
>>> for name, parameter in model.named_parameters():
...     parameter.requires_grad = not name.startswith("1")  # meant block 1; matches 10 and 11
>>> [(finding.severity, finding.site) for finding in CHECK.run(Subject(model=model))]
[('warning', '1'), ('warning', '10'), ('warning', '11')]

## References
Checklist of issue 4 (frozen by mistake); catalogue of failure modes, mode 38 (a forgotten flag).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pitprop.checks._check import ROOT, Subject, found, some
from pitprop.records import Finding

FEWEST = 3
"""Blocks that make a stack. A convention: of two there is no majority."""


@dataclass(frozen=True, kw_only=True)
class FrozenInPart:
    """Frozen in some blocks, trained in most."""

    name: ClassVar[str] = "frozen-in-part"
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, subject: Subject) -> list[Finding]:
        parameters = dict(subject.model.named_parameters())
        odd: set[str] = set()
        for stack in _stacks(parameters):
            frozen = {number for number, name in stack.items() if not parameters[name].requires_grad}
            lowest = set(sorted(stack)[: len(frozen)])
            if len(stack) >= FEWEST and len(frozen) < len(stack) / 2 and frozen != lowest:
                odd |= {stack[number] for number in frozen}
        sites: dict[str, list[str]] = {}
        for name in parameters:
            if name in odd:
                sites.setdefault(name.rpartition(".")[0] or ROOT, []).append(name)
        return [
            found(
                self.name,
                "warning",
                site,
                f"{some(names)}: frozen, where the same of most other blocks is trained.",
                {"num_tensors": len(names)},
                ("Freeze",),
            )
            for site, names in sites.items()
        ]


def _stacks(parameters: dict[str, nn.Parameter]) -> Iterator[dict[int, str]]:
    """Of each family of names that differ in one number only, and are of one shape: number -> name."""
    families: dict[tuple[str, str, torch.Size], dict[int, str]] = {}
    for name, parameter in parameters.items():
        for number in re.finditer(r"(?<![^.])\d+(?![^.])", name):
            family = (name[: number.start()], name[number.end() :], parameter.shape)
            families.setdefault(family, {})[int(number[0])] = name
    yield from families.values()


CHECK = FrozenInPart()
