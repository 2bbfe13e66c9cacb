"""The loss is stuck where a predictor that ignores its input would be.

## What it detects
The loss has reached the floor (the loss of the best answer that doesn't look at the input) and stays within 2 % of it.

## Why it matters
The network has learned the marginal and nothing else: the class prior, the mean target, the mean image. Every curve
looks converged, accuracy can be high where classes are unbalanced, and more steps of the same kind may change nothing.

## Reads
`loss` and `loss_floor` at the run. The floor is logged by the loop: the entropy of the label prior, ln K for balanced
classes, the variance of the targets for a squared error. Without it the rule is silent; once is enough.

## Threshold
* The median of the last 20 losses within 2 % of the floor (a convention; in units of the floor, so the loss may have
  any).
* For 50 rows, and for at least twice as many rows as it took to get there: learning the marginal first is how networks
  learn, so the transient is measured in the run's own time.

## When it is wrong
Data without anything to learn stay at the floor by right. A plateau that is left after more than twice the time that
reaching it took is reported before it is left. A floor of another unit than the loss (sum against mean, weights left
out) makes it silent or wrong. A loss far above its floor is not this failure. Zero and negative floors are left out.

## Remedies
What hides the input is to be found by trials: an objective that a constant satisfies, a bottleneck without gradient, a
step size too large.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"loss": max(2.303, 3 - t / 20), "loss_floor": 2.303}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(LossPlateauAtFloor(),))]
[('failure', 23, 72)]

## References
Catalogue of failure modes, modes 15 and 39. Lin et al., "Focal loss for dense object detection", arXiv 1708.02002 (the
prior-matched bias).
"""

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN, WARM_UP, Persistence, persist
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Recent losses, the last known floor, persistence at it, and the row at which it was first reached."""

    recent: tuple[float, ...]
    floor: float
    at_floor: Persistence
    reached: int


@dataclass(frozen=True, kw_only=True)
class LossPlateauAtFloor:
    """The loss stays at that of a predictor without input."""

    name: ClassVar[str] = "loss-plateau-at-floor"
    reads: ClassVar[tuple[str, ...]] = ("loss", "loss_floor")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "LearningRate", "Replace", "Reinitialise")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    tolerance: float = 0.02
    """Distance to the floor, as a share of it, that is at the floor."""
    patience: int = 50
    """Rows at the floor, at least."""

    def init(self) -> State:
        return State((NAN,) * WARM_UP, NAN, Persistence(), 0)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        floor = row.values.get("loss_floor", math.nan)
        state = state._replace(floor=state.floor if math.isnan(floor) else floor)
        loss = row.values.get("loss", math.nan)
        if not math.isfinite(loss) or not state.floor > 0:
            return state, None
        recent = (*state.recent[1:], loss)
        seen = [v for v in recent if not math.isnan(v)]
        if len(seen) < WARM_UP:
            return state._replace(recent=recent), None
        level = statistics.median(seen)
        at_floor = persist(state.at_floor, row.step, abs(level - state.floor) <= self.tolerance * state.floor)
        reached = state.reached or (at_floor.rows + WARM_UP - 1 if at_floor.count else 0)
        state = State(recent, state.floor, at_floor, reached)
        if at_floor.count < max(self.patience, 2 * reached):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=at_floor.onset,
            detected=row.step,
            message=f"loss {level:.4g} is at the floor {state.floor:.4g} of a predictor without input{at(row.site)} "
            f"since step {at_floor.onset}; the network has learned the marginal and nothing else.",
            evidence={"loss_median": level, "loss_floor": state.floor, "rows_to_reach_it": float(reached)},
            remedies=self.remedies,
        )
