"""Updates are lost to rounding: most weights in half precision don't change when they are stepped.

## What it detects
More than half of a module's half-precision weights that have a gradient are bit for bit the same after the step; or
the scaler's factor of the loss has fallen under 1.

## Why it matters
A bfloat16 number has 8 significant bits: an update under half an ulp, 0.2 to 0.4 % of the weight, rounds to no change,
and thousands of them add up to none. The loss flattens early and looks converged. A `GradScaler` under 1 means that
gradients overflow at any scale that would keep the small ones.

## Reads
`lost_update_share` at modules with float16 or bfloat16 weights that the optimizer steps (those with a float32 master
copy have none); `loss_scale` at the run, where `watch` was given the scaler.

## Threshold
* Exact, per entry; a majority of them, for 20 rows and not before row 40, is a convention.
* A loss scale under 1, as long: 1 is no scaling at all.

## When it is wrong
During a warm-up from a learning rate near 0 updates are small by design: the finding is true and passes. Stochastic
rounding loses nothing on average and moves only a share of the weights per step. A run that has converged loses its
updates rightly. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
`Precision` (float32 weights, halves under autocast), or a compensated sum; a larger `LearningRate`, by trial.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="mlp", values={"lost_update_share": 0.97}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(UpdateUnderflow(),))]
[('warning', 0, 39)]

## References
Catalogue of failure modes, mode 36. Zamirai et al., "Revisiting bfloat16 training", arXiv 2010.06192. Micikevicius et
al., "Mixed precision training", arXiv 1710.03740.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class UpdateUnderflow:
    """Rounding swallows the updates."""

    name: ClassVar[str] = "update-underflow"
    reads: ClassVar[tuple[str, ...]] = ("lost_update_share", "loss_scale")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Precision", "LearningRate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    majority: float = 0.5
    """Share of lost updates over which most are lost."""
    smallest_scale: float = 1.0
    """Factor of the loss under which scaling makes things worse."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        share = row.values.get("lost_update_share", math.nan)
        scale = row.values.get("loss_scale", math.nan)
        if math.isnan(share) and math.isnan(scale):
            return state, None
        # Shares belong to modules, the scale to the run: a row has one of the two.
        state = persist(state, row.step, share > self.majority or 0 < scale < self.smallest_scale)
        if not lasting(state, self.patience, self.transient):
            return state, None
        seen = f"the step leaves {share:.0%} of the weights exactly as they were"
        if not share > self.majority:
            seen = f"the loss is scaled by {scale:.2g}, down where it should be up"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"{seen}{at(row.site)} {since(state)}; rounding swallows what should be learned.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
