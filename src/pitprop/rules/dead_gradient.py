"""Weights whose gradient is exactly zero, batch after batch: no order of steps will ever move them.

## What it detects
A module with a weight tensor whose whole gradient is exactly zero, row after row past the first steps, while other
modules have gradient.

## Why it matters
A zero factor is dead when every path from it to the loss holds another zero factor that gets no gradient either (LoRA
with A = B = 0, ReZero in front of a zero projection). A detached path and a unit that never fires look the same.
Weight decay goes on shrinking what nothing holds up.

## Reads
`zero_gradient_share` at modules that own parameters: the share of their weights that lie in tensors without gradient.

## Threshold
* Exact: zero is a structural fact, and any other level would have the loss's unit.
* 20 rows in succession, and not before row 40. A zero-initialised path that wakes up takes one or two steps (its
  order); three batches would settle most others; the rest of the 20 is for experts and branches that are used rarely.
* Never asked: biases (the softmax takes the keys' out, a normalisation takes the mean out), embeddings (the batch may
  not use them), parameters without a gradient (behind a flag: `grad is None`). NaN where nothing at all has gradient.

## When it is wrong
An expert that gets no token for 20 rows, a branch behind a flag that multiplies by zero instead of skipping: dead for
now, by design. Hence a warning. A gradient under 1e-22 is zero here, because its square is. Measured: no alarm on 200
healthy AR(1) series of 3000 rows.

## Remedies
Only one zero factor per path: `Reinitialise` one of the two, and run a trial of it.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="adapter", values={"zero_gradient_share": 1.0}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(DeadGradient(),))]
[('warning', 0, 39)]

## References
Catalogue of failure modes, mode 10 and its list of structural zeros; derivation T3 (wake-up order). Zhang, Rao and
Agrawala, "Adding conditional control to text-to-image diffusion models", arXiv 2302.05543 (one zero factor wakes up).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class DeadGradient:
    """A module's weights get no gradient at all."""

    name: ClassVar[str] = "dead-gradient"
    reads: ClassVar[tuple[str, ...]] = ("zero_gradient_share",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Reinitialise", "Replace", "Knob")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        share = row.values.get("zero_gradient_share", math.nan)
        if math.isnan(share):
            return state, None
        state = persist(state, row.step, share > 0)
        if not lasting(state, self.patience, self.transient):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the gradient of {share:.0%} of the weights is exactly zero{at(row.site)} {since(state)}, while "
            "other modules have gradient; no step moves them.",
            evidence={"zero_gradient_share": share},
            remedies=self.remedies,
        )
