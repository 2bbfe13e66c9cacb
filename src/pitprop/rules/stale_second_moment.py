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
* 2.3: the published level at which spikes of RMS_t count; single batches exceed 1 in every run. And over the warm-up's
  median by six of its robust standard deviations, because small batches are noisy. Six is a convention.
* For 5 rows in succession, which is one too, less than other rules' because the memory catches up: after a jump at step
  T by a large factor, within the first 1/(1 - beta2) steps, RMS_t stays over 2.3 for about T / 5 steps.

## When it is wrong
Rare gradients (embeddings, experts) are always larger than their average, and noisy: their warm-up says so. A jump
that is measured for fewer than 5 rows has passed unseen. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
`gradient-stabiliser` or `ClipGradient` on the update, a smaller beta2 (0.95, by `Knob`), a warm-up after a switch
(`Stage`), `ResetOptimizer`.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="head", values={"second_moment_ratio": 1.0 if t < 50 else 6.0}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(StaleSecondMoment(),))]
[('warning', 50, 54)]

## References
Catalogue of failure modes, mode 31. Wortsman et al., "Stable and low-precision training for large-scale vision-language
models", arXiv 2304.13013 (RMS spikes, StableAdamW).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import Persistence, Reference, new_reference, observe, persist
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Log RMS_t of the warm-up, and persistence over the level."""

    reference: Reference
    over: Persistence


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
    deviations: float = 6.0
    """Robust standard deviations over the warm-up, at least."""
    patience: int = 5
    """Rows at that level."""

    def init(self) -> State:
        return State(new_reference(), Persistence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        ratio = row.values.get("second_moment_ratio", math.nan)
        if not (math.isfinite(ratio) and ratio > 0):
            return state, None
        value, centre = math.log(ratio), state.reference.centre
        if math.isnan(centre):
            return state._replace(reference=observe(state.reference, value)), None
        level = max(math.log(self.level), centre + self.deviations * state.reference.spread)
        state = state._replace(over=persist(state.over, row.step, value > level))
        if state.over.count < self.patience:
            return state, None
        onset, reference = state.over.onset, math.exp(centre)
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
