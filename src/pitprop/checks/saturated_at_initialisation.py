"""Most units of a tanh or sigmoid are saturated before the first step.

## What it detects
On one batch, more than half of the outputs of a tanh or sigmoid lie where its derivative is under 1 % of its maximum.

## Why it matters
A saturated unit passes hardly any gradient, so everything that feeds it starts nearly cut off from the loss, and with
Adam may stay so. Fifty normalised tokens summed before a tanh are enough.

## Reads
One batch, one pass. Nothing of it remains.

## Threshold
A share of 0.5. A standard normal pre-activation gives 0.3 % for tanh and nothing for the sigmoid, so a majority is far
from every sound initialisation; that it is a half is a convention.

## When it is wrong
A gate that is opened or closed on purpose (a bias of 10 makes it the identity) is saturated by design. Fused recurrent
kernels and compiled kernels of one's own show no tanh to look at. A batch unlike the data says little.

## Remedies
Bring the pre-activation to unit size: normalise it, or average tokens where they were summed.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
>>> x = 1000 * torch.randn(16, 8)
>>> [(finding.severity, finding.site) for finding in CHECK.run(Subject(model=model, batches=(x,)))]
[('warning', '1')]

## References
Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
Catalogue of failure modes, mode 13; the rule `saturated-units` sees the same over time.
"""

from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, found
from pitprop.checks._measure import measure
from pitprop.records import Finding


@dataclass(frozen=True, kw_only=True)
class SaturatedAtInitialisation:
    """Units that pass no gradient from the start."""

    name: ClassVar[str] = "saturated-at-initialisation"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    majority: float = 0.5
    """Share of saturated units over which the site is saturated."""

    def run(self, subject: Subject) -> list[Finding]:
        return [
            found(
                self.name,
                "warning",
                site,
                f"{share:.0%} of the units are saturated at {site} before the first step; "
                "what feeds them gets hardly any gradient.",
                {"saturated_share": share},
                ("unit-rms", "mean-pool", "Knob", "Reinitialise"),
            )
            for site, share in measure(subject).means("saturated_share").items()
            if share > self.majority
        ]


CHECK = SaturatedAtInitialisation()
