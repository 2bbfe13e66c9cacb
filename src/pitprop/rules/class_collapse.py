"""The classifier answers with a class or two, and is no better than the prior.

## What it detects
The most likely class is the same nearly everywhere (less than half of the labels' entropy), while the cross-entropy is
no lower than that of a predictor which knows only how common the classes are.

## Why it matters
With unbalanced classes (background, padding, "no defect") accuracy looks good all along. The loss has learned the
marginal and stopped there.

## Reads
`class_loss_ratio` (cross-entropy over label entropy), `class_entropy_ratio` (entropy of the answers over that of the
labels) and `class_divergence` (KL of the prior and the mean prediction), at the run or the site that was given:
`watch.log(logits=logits, labels=labels)`. Labels under 0 (`ignore_index`) are left out.

## Threshold
* Answers under half of the labels' entropy and loss ratio over 0.98. A half and 2 % are conventions; 1 is the floor.
* For 100 rows, and for at least twice as many as it took to get there. Learning the marginal first is healthy: in 14 of
  18 arms of an experiment everything was background at first, and context was learned by step 60 to 100.

## When it is wrong
Labels without any relation to the input are answered with the prior by right. A warm-up of more than 100 rows is
reported before it ends. A batch with one class has no label entropy and is no evidence. Answers of one class with a
loss below the floor are a threshold to be moved, not a collapse, and are not reported. Measured: no alarm on 200
healthy AR(1) series of 3000 rows. In tiny trainings (3 seeds each) labels without relation to the input were found
within 250 steps, and a transient background was left alone.

## Remedies
A bias matched to the prior (b_k = ln pi_k), a balanced loss, or what hides the input: a knob, a step size too large.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> values = {"class_loss_ratio": 1.01, "class_entropy_ratio": 0.05}
>>> rows = [Row(step=t, site=RUN, values=values) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(ClassCollapse(),))]
[('failure', 0, 99)]

## References
Lin et al., "Focal loss for dense object detection", arXiv 1708.02002. Menon et al., "Long-tail learning via logit
adjustment", arXiv 2007.07314. Catalogue, mode 15.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import Persistence, persist, since_start
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Persistence of the collapse, and the row at which it was first there."""

    collapsed: Persistence
    reached: int


@dataclass(frozen=True, kw_only=True)
class ClassCollapse:
    """One class for everything, at the loss of the prior."""

    name: ClassVar[str] = "class-collapse"
    reads: ClassVar[tuple[str, ...]] = ("class_loss_ratio", "class_entropy_ratio", "class_divergence")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "LearningRate", "Replace", "Reinitialise")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    few: float = 0.5
    """Entropy of the answers over that of the labels, under which classes are missing."""
    floor: float = 0.98
    """Loss over the label entropy, over which the input has not helped."""
    patience: int = 100
    """Rows in that state, at least."""

    def init(self) -> State:
        return State(Persistence(), 0)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        loss = row.values.get("class_loss_ratio", math.nan)
        variety = row.values.get("class_entropy_ratio", math.nan)
        if math.isnan(loss) or math.isnan(variety):
            return state, None
        held = persist(state.collapsed, row.step, variety < self.few and loss > self.floor)
        state = State(held, state.reached or (held.rows if held.count else 0))
        if held.count < max(self.patience, 2 * state.reached):
            return state, None
        since = "since the first row" if since_start(held) else f"since step {held.onset}"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=held.onset,
            detected=row.step,
            message=f"the answers have {variety:.0%} of the labels' entropy at {loss:.2f} times the loss of the prior"
            f"{at(row.site)} {since}; the input does not decide the class.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
