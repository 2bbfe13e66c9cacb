"""The gradient has outgrown what Adam remembers of it, from one step to the next: its steps are too large.

## What it detects
The gradient of a module has jumped and stays: over 2.3 times the largest of before for 20 rows, while RMS_t, the RMS of
gradient over root second moment, went over 2.3 with it.

## Why it matters
Adam divides by a memory of 1/(1 - beta2) steps. When gradients jump (a module that is switched on, a new data source,
a loss in another unit), the division is by what they were, and the step is RMS_t times its design. Loss spikes follow a
few steps later.

## Reads
`second_moment_ratio` (RMS_t) and `gradient_norm`, at modules that Adam trains.

## Threshold
* RMS_t over 2.3, in each of the first 5 rows of the jump: the published level at which spikes of RMS_t count.
* A jump, not growth: gradients that grow by right raise RMS_t as well, and for as long. At a growth by the factor e^r a
  step it comes to sqrt(1 + 2 r / (1 - beta2)), so with beta2 = .999 and gradients that double in 300 steps it is over
  2.3: networks that leave a plateau or a long warm-up do that. So RMS_t says nothing by itself; the reference is the
  largest gradient of the 5 rows before: growth would have to come to a factor of 2.3 within a row or two.
* And it stays: a spike's gradient comes back within 20 rows, a switch does not. 5 and 20 rows are conventions.

## When it is wrong
A jump to gradients that are right (a term of the loss that is switched on as planned) is reported too; its steps are
oversized all the same. A jump within the first 5 rows has nothing before it. One that recovers within 20 rows is left
to `loss-spike`. Rows that are many steps apart can have the growth of a wake-up between two of them, or come when
Adam's memory has caught up already.

## Remedies
`gradient-stabiliser` or `ClipGradient` on the update, a smaller beta2 (0.95, by `Knob`), a warm-up after a switch
(`Stage`), `ResetOptimizer`.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> steady, jump = ({"gradient_norm": g, "second_moment_ratio": r} for g, r in ((0.1, 1.0), (5.0, 6.0)))
>>> rows = [Row(step=t, site="head", values=steady if t < 50 else jump) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(StaleSecondMoment(),))]
[('warning', 50, 69)]

## References
Catalogue of failure modes, mode 31. Wortsman et al., "Stable and low-precision training for large-scale vision-language
models", arXiv 2304.13013 (RMS spikes, StableAdamW).
"""

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN, PATIENCE
from pitprop.rules._rule import Shelf, at

FEW = 5
"""Rows that are looked at right before and right after a jump."""


class State(NamedTuple):
    """The last rows, the oldest first; NaN while there are fewer."""

    steps: tuple[int, ...]
    gradients: tuple[float, ...]
    ratios: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class StaleSecondMoment:
    """Adam's second moment lags behind the gradient."""

    name: ClassVar[str] = "stale-second-moment"
    reads: ClassVar[tuple[str, ...]] = ("second_moment_ratio", "gradient_norm")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("gradient-stabiliser", "ClipGradient", "Knob", "Stage", "ResetOptimizer")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    level: float = 2.3
    """RMS_t over which a step is oversized, and the factor of a jump."""
    patience: int = PATIENCE
    """Rows for which the gradient stays."""

    def init(self) -> State:
        num_rows = FEW + self.patience
        return State((-1,) * num_rows, (NAN,) * num_rows, (NAN,) * num_rows)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        ratio = row.values.get("second_moment_ratio", math.nan)
        gradient = row.values.get("gradient_norm", math.nan)
        if not (math.isfinite(ratio) and math.isfinite(gradient)):
            return state, None
        state = State((*state.steps[1:], row.step), (*state.gradients[1:], gradient), (*state.ratios[1:], ratio))
        # Oldest first: while rows are missing the first gradient is NaN.
        if math.isnan(state.gradients[0]):
            return state, None
        before, after = max(state.gradients[:FEW]), state.gradients[FEW:]
        oversized = state.ratios[FEW : 2 * FEW]
        if min(after) <= self.level * before or min(oversized) <= self.level:
            return state, None
        onset, now = state.steps[FEW], statistics.median(after)
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"gradients are up to {max(oversized):.2g} times what Adam's second moment remembers{at(row.site)} "
            f"since step {onset}, when they went from {before:.2g} to {now:.2g}; its steps are that much larger than "
            "their design.",
            evidence={
                "second_moment_ratio": max(oversized),
                "gradient_norm": now,
                "gradient_norm_before": before,
            },
            remedies=self.remedies,
        )
