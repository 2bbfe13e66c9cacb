"""A residual stream that grows with depth faster than its branches can account for.

## What it detects
From the first block to the last, the root mean square of the stream grows by more than sqrt(1 + n), with n the number
of blocks (note), or by more than 1 + n (warning).

## Why it matters
Blocks of equal size that know nothing of each other add variances: the stream grows like sqrt(1 + n). Even if they all
pointed the same way it would be 1 + n. Beyond that every block multiplies what it gets: growth is exponential in depth,
and so is the gradient on its way back.

## Reads
One batch; what every block of a stack takes and hands on as `[batch, token, width]`.

## Threshold
The law of adding variances, and its coherent limit. The scale is the larger of the first block's entrance and exit,
because a small embedding (standard deviation 0.02) is outgrown by the first block in sound models.

## When it is wrong
Pretrained models may hold massive activations. Stacks that change their unit on purpose (a scale between stages). A
stack of one block is not judged.

## Remedies
A normalisation at each branch's entrance; branches scaled by 1 / sqrt(2 n); LayerScale.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Block(nn.Module):
...     def __init__(self, normed):
...         super().__init__()
...         self.norm, self.f = nn.LayerNorm(32) if normed else nn.Identity(), nn.Linear(32, 32)
...         nn.init.normal_(self.f.weight, std=2 / 32**0.5)
...     def forward(self, x):
...         return x + self.f(self.norm(x))
>>> x = torch.randn(4, 8, 32)
>>> for normed in (True, False):
...     model = nn.Sequential(*(Block(normed) for _ in range(8)))
...     print([f.severity for f in CHECK.run(Subject(model=model, batches=(x,)))])
[]
['warning']

## References
Catalogue of failure modes, mode 25. Radford et al., "Language models are unsupervised multitask learners", 2019, for
the factor 1 / sqrt(2 n).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, found
from pitprop.checks._measure import Block, measure
from pitprop.records import Finding, Severity


@dataclass(frozen=True, kw_only=True)
class StreamGrowthAtInitialisation:
    """Growth of the residual stream against the law of adding variances."""

    name: ClassVar[str] = "stream-growth-at-initialisation"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        findings = []
        for stack in measure(subject).stacks():
            blocks = [block for block in stack if block.num_branches]
            if len(blocks) > 1:
                findings += self._judge(blocks)
        return findings

    def _judge(self, blocks: list[Block]) -> list[Finding]:
        start, end, n = max(blocks[0].rms_in, blocks[0].rms_out), blocks[-1].rms_out, len(blocks)
        growth = end / start if start else math.nan
        law = math.sqrt(1 + n)
        if not growth > law:
            return []
        severity: Severity = "warning" if growth > 1 + n else "note"
        means = "blocks multiply what they get" if severity == "warning" else "blocks add up in one direction"
        message = (
            f"the stream grows {growth:.3g}-fold from {blocks[0].site} to {blocks[-1].site}; {n} independent blocks of "
            f"equal size give {law:.2g}: {means}."
        )
        evidence = {"growth": growth, "variance_addition": law, "num_blocks": n}
        return [found(self.name, severity, blocks[-1].site, message, evidence, ("layer-scale", "unit-rms"))]


CHECK = StreamGrowthAtInitialisation()
