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
* Lost: after 20 rows under the floor, 50 rows at it (a convention) are a failure: what was learned is gone.
* Never better: learning the marginal first is how networks learn, and many begin at the floor, so by its level a good
  start can't be told from a plateau that stays. It is a failure from row 240 on, the longest that such a start took in
  experiments (science.md, b), and after twice as many rows as the loss took to get there (its last fall by 5 %): what
  descends slowly, learns slowly.

## When it is wrong
Data without anything to learn stay at the floor by right. A start of more than 240 rows at the floor is reported before
it is left, and a network that will never learn isn't reported before. A floor of another unit than the loss (sum
against mean, weights left out) makes it silent or wrong. A loss far above its floor is not this failure. Zero and
negative floors are left out.

## Remedies
What hides the input is to be found by trials: an objective that a constant satisfies, a bottleneck without gradient, a
step size too large.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"loss": max(2.303, 3 - t / 20), "loss_floor": 2.303}) for t in range(300)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(LossPlateauAtFloor(),))]
[('failure', 23, 239)]

## References
Catalogue of failure modes, modes 15 and 39. Lin et al., "Focal loss for dense object detection", arXiv 1708.02002 (the
prior-matched bias).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN
from pitprop.rules._plateau import Level, Plateau, descend, dwell, stuck
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Recent losses, the last known floor, and what the run has made of it."""

    level: Level = Level()
    floor: float = NAN
    plateau: Plateau = Plateau()


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
    """Rows at the floor after better ones."""

    def init(self) -> State:
        return State()

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        floor = row.values.get("loss_floor", math.nan)
        state = state._replace(floor=state.floor if math.isnan(floor) else floor)
        loss = row.values.get("loss", math.nan)
        if not math.isfinite(loss) or not state.floor > 0:
            return state, None
        level = descend(state.level, loss)
        above = level.median / state.floor - 1
        plateau = dwell(state.plateau, row.step, abs(above) <= self.tolerance, above < -self.tolerance, level.progress)
        state = State(level, state.floor, plateau)
        if not stuck(plateau, self.patience):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=plateau.inside.onset,
            detected=row.step,
            message=f"loss {level.median:.4g} is at the floor {state.floor:.4g} of a predictor without input"
            f"{at(row.site)} since step {plateau.inside.onset}; the network has learned the marginal and nothing else.",
            evidence={
                "loss_median": level.median,
                "loss_floor": state.floor,
                "rows_to_reach_it": float(plateau.arrived),
            },
            remedies=self.remedies,
        )
