"""Most units of a tanh or sigmoid are saturated before the first step.

## What it detects
On one batch, more than half of the outputs of a tanh or sigmoid lie where its derivative is under 1 % of its maximum.

## Why it matters
A saturated unit passes hardly any gradient, so everything that feeds it starts nearly cut off from the loss, and with
Adam may stay so. Fifty normalised tokens summed before a tanh are enough.

## Reads
One batch, one forward pass without gradients. Nothing of it remains: modes, buffers and random states are put back.

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
>>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
>>> x = 1000 * torch.randn(16, 8)
>>> [(finding.severity, finding.site) for finding in CHECK.run(model, x)]
[('warning', '1')]

## References
Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
Catalogue of failure modes, mode 13; the rule `saturated-units` sees the same over time.
"""

import statistics
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pitprop.checks._check import LossFn
from pitprop.checks._forward import ROOT, forward, preserved
from pitprop.indicators import saturated_share
from pitprop.records import Finding

aten = torch.ops.aten
SQUASHING: dict[Any, Literal["tanh", "sigmoid"]] = {
    aten.tanh.default: "tanh",
    aten.tanh_.default: "tanh",
    aten.sigmoid.default: "sigmoid",
    aten.sigmoid_.default: "sigmoid",
}


class _Saturation(TorchDispatchMode):
    """Shares of saturated units by site, of every tanh and sigmoid that runs."""

    def __init__(self, stack: list[str]):
        super().__init__()
        self.stack, self.shares = stack, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in SQUASHING:
            share = float(saturated_share(out, SQUASHING[func]))
            self.shares.setdefault(self.stack[-1], []).append(share)
        return out


@dataclass(frozen=True, kw_only=True)
class SaturatedAtInitialisation:
    """Units that pass no gradient from the start."""

    name: ClassVar[str] = "saturated-at-initialisation"
    needs: ClassVar[tuple[str, ...]] = ("batch",)

    majority: float = 0.5
    """Share of saturated units over which the site is saturated."""

    def run(
        self, model: nn.Module, batch: Any = None, *, optimizer: Any = None, loss_fn: LossFn | None = None
    ) -> list[Finding]:
        stack, handles = [ROOT], []
        mode = _Saturation(stack)
        try:
            for site, module in model.named_modules():
                enter = module.register_forward_pre_hook(lambda *_, site=site: stack.append(site or ROOT))
                leave = module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True)
                handles += [enter, leave]
            with preserved(model), mode:
                forward(model, batch, loss_fn)
        finally:
            for handle in handles:
                handle.remove()
        means = {site: statistics.fmean(shares) for site, shares in mode.shares.items()}
        return [self._finding(site, share) for site, share in means.items() if share > self.majority]

    def _finding(self, site: str, share: float) -> Finding:
        return Finding(
            rule=self.name,
            severity="warning",
            site=site,
            onset=0,
            detected=0,
            message=f"{share:.0%} of the units are saturated at {site} before the first step; "
            "what feeds them gets hardly any gradient.",
            evidence={"saturated_share": share},
            remedies=("unit-rms", "mean-pool", "Knob", "Reinitialise"),
        )


CHECK = SaturatedAtInitialisation()
