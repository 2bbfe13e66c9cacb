"""What each residual branch does to its stream: how long it is, and what gradient it leaves to what comes before.

## What it detects
For every residual addition x + b the ratio |b| / |x|, the dilution |x| / |x + b| that a normalisation further on makes
of it, and the gain of the path through b. A branch ten times as long as its stream is a warning, unless its own path
gives the gradient back; the rest is one note.

## Why it matters
An addition copies the gradient, nothing is absorbed. But where a norm follows, the gradient to x is divided by the
length of the sum: dL/dx ~ |x| / |x + b| times the gain. A context that was never normalised does that to a stream from
the first step on, and what the stream carried is a rounding error in the sum.

## Reads
One batch, forward and backward. Branches are recognised where a tensor is added to one that it was computed from, or
that another module made; see `watch`.

## Threshold
|b| / |x| over 10 with less than half of the gradient left: an order of magnitude over equal length, a convention. The
prediction is T4 of the catalogue; norm matching gives 1 / sqrt(1 + a^2) for any branch.

## When it is wrong
Without a normalisation behind the addition there is no dilution, and only the gain counts. Where x feeds more than the
addition and its branch, the gain has those paths in it too. Adam hides a constant factor: a trial decides whether it
matters. A branch that is meant to replace its stream does so.

## Remedies
Match the branch's norm to the stream's, or start its output projection at zero: then the ratio is 0 and the dilution 1.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Context(nn.Module):
...     def __init__(self, size):
...         super().__init__()
...         self.embed, self.context, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)
...         self.size = size
...     def forward(self, x, c):
...         return self.norm(self.embed(x) + self.size * self.context(c))
>>> x, c = torch.randn(4, 5, 8), torch.randn(4, 5, 8)
>>> for size in (1, 100):
...     print([(f.severity, f.site) for f in CHECK.run(Subject(model=Context(size), batches=((x, c),)))])
[('note', 'context')]
[('warning', 'context')]

## References
Derivation T4 and mode 7 of the catalogue; the rule `branch-domination` sees the same over time.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, found
from pitprop.checks._measure import Branch, measure
from pitprop.records import Finding


@dataclass(frozen=True, kw_only=True)
class BranchDilution:
    """Branches beside their streams."""

    name: ClassVar[str] = "branch-dilution"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    ratio: float = 10.0
    """Length of the branch over that of the stream, over which the stream is drowned."""
    left: float = 0.5
    """Share of the gradient from which on the branch's own path has given it back."""

    def run(self, subject: Subject) -> list[Finding]:
        branches = [b for b in measure(subject).branches if math.isfinite(b.ratio)]
        drowned = [b for b in branches if b.ratio > self.ratio and not b.dilution * _gain(b) >= self.left]
        findings = [
            found(
                self.name,
                "warning",
                b.site,
                f"the branch at {b.site} is {b.ratio:.3g} times as long as its stream: {_told(b)}.",
                _evidence(b),
                ("norm-match", "zero-init-projection", "layer-scale", "Scale"),
            )
            for b in drowned
        ]
        rest = [b for b in branches if b not in drowned and b.ratio > 0]
        if rest:
            worst = max(rest, key=lambda b: b.ratio)
            every = {f"{name}@{b.site}": value for b in rest for name, value in _evidence(b).items()}
            least = min(b.ratio for b in rest)
            message = (
                f"{len(rest)} residual branches are {least:.2g} to {worst.ratio:.2g} times as long as their streams; "
                f"at the longest, {worst.site}, {_told(worst)}."
            )
            findings.append(found(self.name, "note", worst.site, message, _evidence(worst) | every))
        return findings


def _gain(b: Branch) -> float:
    return b.before / b.after if b.after else math.nan


def _told(b: Branch) -> str:
    left = f"a normalisation behind it leaves {b.dilution:.1%} of the gradient to what comes before"
    return left if math.isnan(_gain(b)) else f"{left}, {b.dilution * _gain(b):.1%} with the path through the branch"


def _evidence(b: Branch) -> dict[str, float]:
    return {"branch_ratio": b.ratio, "norm_dilution": b.dilution, "query_path_gain": _gain(b)}


CHECK = BranchDilution()
