"""The gradient has outgrown what Adam remembers of it: its steps are too large.

## What it detects
RMS_t, the RMS of gradient over root second moment, stays over 2.3 although it was about 1.

## Why it matters
Adam divides by a memory of 1/(1 - beta2) steps. When gradients grow faster (a module that is switched on, a new data
source, an early spike), the division is by what they were, and the step is RMS_t times its design. Loss spikes follow a
few steps later.

## Reads
`second_moment_ratio` (RMS_t) at modules that Adam trains.

## Threshold
* 2.3: the published level at which spikes of RMS_t count; single batches exceed 1 in every run.
* For 10 rows, with the e-detector on ln RMS_t past a run length of 10 000 rows. The 10 is a convention, half of other
  rules', because the memory catches up.

## When it is wrong
Rare gradients (embeddings, experts) are always larger than their average: their warm-up says so, and where that is over
2.3 the rule is silent. A jump that is measured for fewer than 10 rows has passed unseen. Measured: no alarm on 200
healthy AR(1) series of 3000 rows.

## Remedies
`gradient-stabiliser` or `ClipGradient` on the update, a smaller beta2 (0.95, by `Knob`), a warm-up after a switch
(`Stage`), `ResetOptimizer`.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="head", values={"second_moment_ratio": 1.0 if t < 50 else 6.0}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(StaleSecondMoment(),))]
[('warning', 50, 59)]

## References
Catalogue of failure modes, mode 31. Wortsman et al., "Stable and low-precision training for large-scale vision-language
models", arXiv 2304.13013 (RMS spikes, StableAdamW).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import Shift, follow, new_shift, shifted
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class StaleSecondMoment:
    """Adam's second moment lags behind the gradient."""

    name: ClassVar[str] = "stale-second-moment"
    reads: ClassVar[tuple[str, ...]] = ("second_moment_ratio",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("gradient-stabiliser", "ClipGradient", "Knob", "Stage", "ResetOptimizer")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    level: float = 2.3
    """RMS_t over which a step is oversized."""
    patience: int = 10
    """Rows at that level."""

    def init(self) -> Shift:
        return new_shift()

    def update(self, state: Shift, row: Row) -> tuple[Shift, Finding | None]:
        ratio = row.values.get("second_moment_ratio", math.nan)
        if not (math.isfinite(ratio) and ratio > 0):
            return state, None
        state = follow(state, row.step, math.log(ratio), span=math.log(self.level) - state.reference.centre)
        if not shifted(state, self.patience):
            return state, None
        onset, reference = state.evidence.onset, math.exp(state.reference.centre)
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"gradients are {ratio:.2g} times what Adam's second moment remembers{at(row.site)} since step "
            f"{onset} (warm-up: {reference:.2g}); its steps are that much larger than their design.",
            evidence={"second_moment_ratio": ratio, "second_moment_ratio_reference": reference},
            remedies=self.remedies,
        )
