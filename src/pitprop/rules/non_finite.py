"""A loss or a gradient is NaN or infinite.

## What it detects
A loss that is not a finite number, at once; a gradient that is not, once it has been so for 17 rows in succession.

## Why it matters
One step from a gradient that is not finite makes every weight it touches NaN, and nothing computed afterwards means
anything. The site with the earliest onset is where to look.

## Reads
`loss` at the run, `gradient_norm` at modules that own parameters. Other indicators are NaN where they are undefined,
which is no failure.

## Threshold
Exact. The 17 rows for gradients are a constant of the mechanism: torch's GradScaler begins at 2^16 and halves after
each overflow, so up to 16 overflows in succession are only its search for a scale. Mostly these leave no row at all: a
step that it skips calls no optimizer. They are rows where the optimizer is fused, because then it is called and skips
the step itself, and in loops that skip steps on their own.

## When it is wrong
A loop that skips batches with a NaN loss by design gets a finding for the first of them. A gradient that overflows for
good is reported 16 rows late; where nobody skips the step, the loss is NaN on the next row and says so then. Where a
GradScaler skips every step there are no rows, and nothing is found: the watch's coverage counts the backward passes
without a step.

## Remedies
A smaller step size or clipping when it grew first; otherwise float32 in softmax and norms, and an epsilon under roots
and logarithms.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"loss": 1.0 if t < 7 else float("nan")}) for t in range(9)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(NonFinite(),))]
[('failure', 7, 7)]

## References
Catalogue of failure modes, mode 35. Micikevicius et al., "Mixed precision training", arXiv 1710.03740 (loss scaling).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import Persistence, persist
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class NonFinite:
    """A number that training needs is NaN or infinite."""

    name: ClassVar[str] = "non-finite"
    reads: ClassVar[tuple[str, ...]] = ("loss", "gradient_norm")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("LearningRate", "ClipGradient", "gradient-stabiliser")
    shelf: ClassVar[Shelf] = "stable"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = True

    patience: int = 17
    """Rows for which a scale may be searched."""

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        loss = row.values.get("loss")
        norm = row.values.get("gradient_norm")
        if loss is not None and not math.isfinite(loss):
            return state, self._finding(row, row.step, "loss", loss)
        if norm is None:
            return state, None
        state = persist(state, row.step, not math.isfinite(norm))
        if state.count < self.patience:
            return state, None
        return state, self._finding(row, state.onset, "gradient_norm", norm)

    def _finding(self, row: Row, onset: int, what: str, value: float) -> Finding:
        return Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"{what} is {value}{at(row.site)} since step {onset}; "
            "every weight that a step from it touches is lost.",
            evidence={what: value},
            remedies=self.remedies,
        )
