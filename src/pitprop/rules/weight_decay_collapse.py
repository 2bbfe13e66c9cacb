"""Weight decay is all that moves a weight: it shrinks to nothing.

## What it detects
A module's update points straight back along its weights; what lies across is under 5 % of it.

## Why it matters
Decay alone shrinks a weight by (1 - lr wd)^t. It is meant to be balanced by a gradient; where that is zero and not
absent (a detached path, an inactive stage, an unused head), the module fades out, and attention whose queries and keys
fade becomes uniform.

## Reads
`shrinkage` (cosine of the update and the weight, sign turned) at modules with weight decay; `weight_rms` as evidence.

## Threshold
Over sqrt(1 - 0.05^2) = 0.99875: decay explains the update within 5 % (a convention), whatever learning rate, decay and
momentum are. For 20 rows, and not before row 40. In n dimensions an unrelated direction has a cosine of about
1/sqrt(n), so modules with fewer than 16 decaying entries aren't asked.

## When it is wrong
Large embeddings of which a batch uses next to nothing shrink by right under SGD. A decay so small that its change is
rounding is not seen. Momentum that still fades out hides the first steps. Measured: no alarm on 200 healthy AR(1)
series of 3000 rows.

## Remedies
`Freeze` what is not in use (`grad = None`, not 0), or no `WeightDecay` on it; a trial without decay.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="head", values={"shrinkage": 0.2 if t < 50 else 1.0}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(WeightDecayCollapse(),))]
[('warning', 50, 69)]

## References
Catalogue of failure modes, mode 34. Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class WeightDecayCollapse:
    """Nothing but weight decay acts on a module."""

    name: ClassVar[str] = "weight-decay-collapse"
    reads: ClassVar[tuple[str, ...]] = ("shrinkage", "weight_rms")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("WeightDecay", "Freeze")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    rest: float = 0.05
    """Part of the update, by length, that decay may leave unexplained."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        cosine = row.values.get("shrinkage", math.nan)
        if math.isnan(cosine):
            return state, None
        state = persist(state, row.step, cosine > math.sqrt(1 - self.rest**2))
        if not lasting(state, self.patience, self.transient):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the update only shrinks the weights (cosine {cosine:.4f}){at(row.site)} {since(state)}; "
            "no gradient acts on them, and decay takes them to nothing.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
