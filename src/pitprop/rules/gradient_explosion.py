"""The gradient of one place outgrows what the whole network had, and stays there.

## What it detects
The gradient norm of a site is more than a hundred times the norm that all sites together had during the warm-up, for 20
rows in succession.

## Why it matters
Under plain SGD such a gradient throws the weights away. Adam divides the size out, so there it is a sign (sharp
curvature, logits or activations that grow) more than a cause; the second moments keep it for long after.

## Reads
`gradient_norm` and `gradient_share` (|g|^2 of the site over that of all sites; the norm over its root is the norm of
all), at modules that own parameters. Without a share the site's own norm is the reference.

## Threshold
A factor of 100 over the warm-up median of the whole norm (two orders of magnitude are a convention), for 20 rows, and
the e-detector on the logarithm past a run length of 10 000 rows. No fixed norm is a threshold: the unit of the loss is
arbitrary. The reference is the whole norm, because a zero-initialised path that wakes up multiplies its own
gradient by a thousand and is healthy.

## When it is wrong
A spike that lasts less than 20 rows is not reported; `loss-spike` speaks where it did damage. A loss that is rescaled
in mid-run (curriculum, loss scaling that is not undone) looks the same. A gradient that explodes within the 20 rows
of warm-up is its own reference, and `loss-spike` has to see it. Infinite and undefined norms are left to
`non-finite`. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
A smaller step size; clipping bounds the step under SGD and hardly changes Adam.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="head", values={"gradient_norm": 1.0 if t < 100 else 500.0}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(GradientExplosion(),))]
[('warning', 100, 119)]

## References
Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", arXiv 1211.5063. Catalogue,
modes 25 and 29; derivation T9 (Adam and gradient scale).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import LOG_EVIDENCE, PATIENCE, Shift, follow, new_shift, shifted
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class GradientExplosion:
    """A site's gradient outgrows the whole network's."""

    name: ClassVar[str] = "gradient-explosion"
    reads: ClassVar[tuple[str, ...]] = ("gradient_norm", "gradient_share")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("LearningRate", "ClipGradient", "gradient-stabiliser")
    shelf: ClassVar[Shelf] = "stable"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    factor: float = 100.0
    """Growth over the warm-up's whole norm that is an explosion."""
    patience: int = PATIENCE

    def init(self) -> Shift:
        return new_shift()

    def update(self, state: Shift, row: Row) -> tuple[Shift, Finding | None]:
        norm = row.values.get("gradient_norm", math.nan)
        share = row.values.get("gradient_share", 1.0)
        if not (math.isfinite(norm) and norm > 0):  # NaN, infinite or zero: not this rule's business
            return state, None
        if math.isnan(state.reference.centre):
            whole = norm / math.sqrt(share) if share > 0 else math.nan
            return follow(state, row.step, math.log(whole), span=math.nan), None
        state = follow(state, row.step, math.log(norm), span=math.log(self.factor))
        if not shifted(state, self.patience):
            return state, None
        onset, reference = state.evidence.onset, math.exp(state.reference.centre)
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"gradient norm {norm:.2g} is {norm / reference:.0f} times the whole network's during the warm-up "
            f"({reference:.2g}){at(row.site)} since step {onset}; the step size was chosen for another gradient.",
            evidence={"gradient_norm": norm, "whole_norm_reference": reference, "growth": norm / reference}
            | {LOG_EVIDENCE: state.evidence.log_sum},
            remedies=self.remedies,
        )
