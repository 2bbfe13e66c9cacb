"""The steps are too large: the network does worse than before it was trained, or steps undo each other.

## What it detects
Within 20 rows the loss is over twice that of the first ones, and after 50 it has not been back where it began
(warning); it is over twice of it for 50 rows at any time (warning); the gradients of a module oppose the momentum that
the steps before have left, on average (note). Only a trial settles it: `LearningRate(factor=0.1)` from the same state.

## Why it matters
A run can bounce at a level where no step of this size makes progress, with no spike and no NaN. On a quadratic of
curvature h, a step of rate lr turns the gradient round once lr h > 1, and diverges at lr h = 2, the edge of stability.

## Reads
`loss` at the run; `momentum_alignment` (cosine of the gradient with the momentum) at modules whose optimizer has one.

## Threshold
* Warning: the median of the last 20 losses over twice the median of the first three, or four times the smallest of
  them, because after one step that is too large the second row is already of another network. A run that is there with
  its first 20 rows is back only under the smallest: to be under twice the untrained network's loss is no recovery.
  Twice, four times, and the 50 rows (those of the first median counted) are the conventions of `loss-spike`, which
  sees a jump from a good state; this one sees a run that never got there.
* Note: the alignment averages under -1/sqrt(2), by the e-detector on (1 - alignment) / 2 past a run length of 10 000
  rows. Take a quadratic of curvature h with noisy gradients, a momentum that is an average with memory b, and a = lr h.
  Once it is stationary, the cosine of gradient and momentum is exactly -(a/2) sqrt((1 - b) / (1 + b + b a)). It is -1
  at the step that diverges, a = 2 (1 + b) / (1 - b) (38 for b = 0.9), and -sqrt(1 + b)/2 at half of that. With many
  independent directions the cosine is no lower than that of the largest a (Cauchy-Schwarz). So an average under
  -1/sqrt(2) says, for any b, that some direction's step is over half of the one that diverges. Half is a convention. No
  run was looked at for it.

## When it is wrong
A loss that is redefined upwards in the first rows. The argument for the note holds at stationarity, for curvature that
is diagonal in the optimizer's coordinates; full batches at the edge of stability oscillate by themselves and may still
learn: hence a note. Plain SGD keeps no momentum to look at. Most rates that are too high show neither sign, so the
silence of this rule proves nothing. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
`LearningRate`, by trial; a warm-up where only the beginning is rough (`warm-up-missing`); `ClipGradient` under SGD.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"loss": 0.7 if t < 5 else 4.4}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(LearningRateTooHigh(),))]
[('warning', 19, 49)]

## References
Catalogue of failure modes, mode 32. Cohen et al., "Gradient descent on neural networks typically occurs at the edge of
stability", arXiv 2103.00065. Pflug, "Non-asymptotic confidence bounds for stochastic approximation", 1990.
"""

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import (
    LOG_EVIDENCE,
    NAN,
    RUN_LENGTH,
    WARM_UP,
    Evidence,
    Persistence,
    gather,
    persist,
    since_start,
)
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """First losses, the last ones, persistence over the first, and evidence that gradients oppose the momentum."""

    first: tuple[float, ...]
    recent: tuple[float, ...]
    over: Persistence
    against: Evidence


@dataclass(frozen=True, kw_only=True)
class LearningRateTooHigh:
    """Steps are too large to make progress."""

    name: ClassVar[str] = "learning-rate-too-high"
    reads: ClassVar[tuple[str, ...]] = ("loss", "momentum_alignment")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("LearningRate", "ClipGradient")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    factor: float = 2.0
    """Median loss over that of the first rows; over the smallest of these, it must be twice as much."""
    opposed: float = -math.sqrt(0.5)
    """Alignment that a healthy module keeps on average, at least."""
    patience: int = 50
    """Rows for which the loss must stay up, those of the first median among them."""

    def init(self) -> State:
        return State((NAN,) * 3, (NAN,) * WARM_UP, Persistence(), Evidence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        alignment = row.values.get("momentum_alignment", math.nan)
        margin = (1 - self.opposed) / 2
        state = state._replace(against=gather(state.against, row.step, (1 - alignment) / 2, margin))
        loss = row.values.get("loss", math.nan)
        if math.isfinite(loss):
            state = self._loss(state, row.step, loss)
        if state.over.count > self.patience - WARM_UP:
            first, now = min(state.first), statistics.median(state.recent)
            severity, onset = self.severity, state.over.onset
            seen = (
                f"the loss {now:.3g} is {now / first:.2g} times the untrained network's {first:.3g}{at(row.site)} and "
                f"has not been back under it since step {onset}"
            )
            evidence = {"loss_median": now, "loss_first": first}
        elif state.against.log_sum >= math.log(RUN_LENGTH) and not math.isnan(alignment):
            severity, onset = "note", state.against.onset
            evidence = {"momentum_alignment": alignment, LOG_EVIDENCE: state.against.log_sum}
            seen = f"gradients oppose the momentum (cosine {alignment:.2f} now){at(row.site)} since step {onset}"
        else:
            return state, None
        return state, Finding(
            rule=self.name,
            severity=severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"{seen}; steps go too far, which a trial of LearningRate(factor=0.1) settles.",
            evidence=evidence,
            remedies=self.remedies,
        )

    def _loss(self, state: State, step: int, loss: float) -> State:
        if math.isnan(state.first[-1]):
            seen = [v for v in state.first if not math.isnan(v)] + [loss]
            state = state._replace(first=tuple(seen) + (NAN,) * (3 - len(seen)))
        state = state._replace(recent=(*state.recent[1:], loss))
        first = min(state.first)
        if math.isnan(state.recent[0]) or not first > 0:
            return state
        level = min(self.factor * statistics.median(state.first), 2 * self.factor * first)
        if since_start(state.over):
            level = first
        return state._replace(over=persist(state.over, step, statistics.median(state.recent) > level))
