"""Parameters on which weight decay acts alone.

## What it detects
Parameters whose gradient is zero, and not None, in every update from the third on, and which their optimizer decays.

## Why it matters
A module that is multiplied by a flag of 0, or left out by `optax`, is not left alone: its gradient is zero, the
optimizer takes part, and weight decay shrinks it by (1 - lr * wd) per step until it is switched on. With `grad` None it
would be skipped.

## Reads
Eight steps of a recipe, which are undone. The first two updates don't count: adaLN-Zero wakes up in two.

## Threshold
None: the gradient is exactly zero. A parameter of zeros has nothing to decay and is left out.

## When it is wrong
Rows of an embedding that are rare are one tensor with those that aren't. A module that is to die out.

## Remedies
Leave the module out with `if`, so that its gradient is None; or give it a group without weight decay until it acts.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model = nn.ModuleDict({"body": nn.Linear(4, 1), "adapter": nn.Linear(4, 1)})
>>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
>>> def step(x):
...     optimizer.zero_grad()
...     (model["body"](x) + 0.0 * model["adapter"](x)).square().mean().backward()
...     optimizer.step()
>>> subject = Subject(model=model, batches=(torch.randn(8, 4),), optimizers=(optimizer,), step=step)
>>> [(finding.severity, finding.site) for finding in CHECK.run(subject)]
[('warning', 'adapter')]

## References
Claim S2-C16 of the survey and experiment k5: |W| 1.659 to 1.229 in 3000 steps. Catalogue of failure modes, mode 34.
"""

from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, common, found, some
from pitprop.checks._steps import updates
from pitprop.checks._wake import is_zero
from pitprop.records import Finding

TRANSIENT = 2
"""Updates in which a zero-initialised model may rightly have zero gradients."""


@dataclass(frozen=True, kw_only=True)
class DecayWithoutGradient:
    """Decay of what has no gradient."""

    name: ClassVar[str] = "decay-without-gradient"
    needs: ClassVar[tuple[str, ...]] = ("batches", "optimizers", "step")

    def run(self, subject: Subject) -> list[Finding]:
        names = {p: name for name, p in subject.model.named_parameters()}
        findings = []
        for index, row in updates(subject).items():
            settled = row[TRANSIENT:]
            for group in subject.optimizers[index].param_groups:
                decay = float(group.get("weight_decay") or 0.0)
                decayed = [
                    names[p]
                    for p in group["params"]
                    if p in names and not is_zero(p) and all(u.gradients[names[p]] is False for u in settled)
                ]
                if settled and decay and decayed:
                    site = common(decayed)
                    message = (
                        f"{len(decayed)} parameters at {site} ({some(decayed)}) have a gradient of zero, not None, in "
                        f"{len(settled)} updates, and weight decay {decay:g}: decay alone acts on them."
                    )
                    evidence = {"num_tensors": len(decayed), "weight_decay": decay}
                    findings.append(found(self.name, "warning", site, message, evidence, ("WeightDecay",)))
        return findings


CHECK = DecayWithoutGradient()
