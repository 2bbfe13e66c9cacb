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
* Answers under half of the labels' entropy, and the median of the last 20 loss ratios over 0.98. A half and 2 % are
  conventions; 1 is the floor.
* Lost: after 20 rows under the prior's loss, 100 rows of this (a convention) are a failure: what was learned is gone.
* Never better: everything is background at first in good runs too (in 14 of 18 arms of an experiment, science.md, g),
  so by its level the start can't be told from a collapse. It is a failure from row 240 on, the longest that such a
  start took in experiments (science.md, b), and after twice as many rows as the loss took to come down to where it is
  (its last fall by 5 %): a loss that still falls towards the prior's has not collapsed to it.

## When it is wrong
Labels without any relation to the input are answered with the prior by right. A start of more than 240 rows at the
prior is reported before it is left, and a network that will never learn isn't reported before. A batch with one class
has no label entropy and is no evidence. Answers of one class with a loss below the floor are a threshold to be moved,
not a collapse, and are not reported. Measured: no alarm on 200 healthy AR(1) series of 3000 rows. In tiny trainings (3
seeds each) labels without relation to the input were found, and a transient background was left alone.

## Remedies
A bias matched to the prior (b_k = ln pi_k), a balanced loss, or what hides the input: a knob, a step size too large.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> values = {"class_loss_ratio": 1.01, "class_entropy_ratio": 0.05}
>>> rows = [Row(step=t, site=RUN, values=values) for t in range(300)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(ClassCollapse(),))]
[('failure', 19, 239)]

## References
Lin et al., "Focal loss for dense object detection", arXiv 1708.02002. Menon et al., "Long-tail learning via logit
adjustment", arXiv 2007.07314. Catalogue, mode 15.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import since
from pitprop.rules._plateau import Level, Plateau, descend, dwell, stuck
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Recent losses, and what the run has made of the collapse."""

    level: Level = Level()
    plateau: Plateau = Plateau()


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
    """Rows in that state after better ones."""

    def init(self) -> State:
        return State()

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        loss = row.values.get("class_loss_ratio", math.nan)
        variety = row.values.get("class_entropy_ratio", math.nan)
        if math.isnan(loss) or math.isnan(variety):
            return state, None
        level = descend(state.level, loss)
        collapsed = variety < self.few and level.median > self.floor
        plateau = dwell(state.plateau, row.step, collapsed, level.median <= self.floor, level.progress)
        state = State(level, plateau)
        if not stuck(plateau, self.patience):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=plateau.inside.onset,
            detected=row.step,
            message=f"the answers have {variety:.0%} of the labels' entropy at {loss:.2f} times the loss of the prior"
            f"{at(row.site)} {since(plateau.inside)}; the input does not decide the class.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
