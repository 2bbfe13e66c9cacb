"""The targets of a teacher (or EMA) network say nothing about the input.

## What it detects
The teacher's targets carry less than a hundredth of the information that they could: all of them are one prototype, or
all are uniform. The finding says which.

## Why it matters
The student learns to give the same answer to everything, and the teacher, its average, confirms it. The loss falls.

## Reads
`teacher_information` ((H(mean) - mean H) / ln min(samples, prototypes); 0 at both ends) and `teacher_entropy` (mean H /
ln K; 1 is the uniform end, 0 the constant one), at the run or the site that was given:
`watch.log(teacher=probabilities)`, one row per sample, after centring and temperature.

## Threshold
Information under 0.01 for 20 rows and not before row 120. Both ends of the scale are the problem's (nothing, and one
prototype per sample); a hundredth is a convention. The first 100 rows don't count: a random teacher hardly tells inputs
apart.

## When it is wrong
A temperature that is warmed up for longer keeps the targets near uniform until then. Batches of views of one input have
one target by right. In tiny trainings (3 seeds each) targets that are not sharpened were found, and sharpened and
centred ones left alone.

## Remedies
At the uniform end a lower temperature, at the constant end centring (both are knobs); a slower teacher. Going back to
before the onset.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> values = {"teacher_information": 0.001, "teacher_entropy": 0.999}
>>> rows = [Row(step=t, site=RUN, values=values if t > 150 else {"teacher_information": 0.4}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(TeacherCollapse(),))]
[('failure', 151, 170)]

## References
Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), arXiv 2104.14294. Catalogue, mode 22.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class TeacherCollapse:
    """A teacher gives every input the same target."""

    name: ClassVar[str] = "teacher-collapse"
    reads: ClassVar[tuple[str, ...]] = ("teacher_information", "teacher_entropy")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "Reinitialise", "LearningRate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    information: float = 0.01
    """Part of the possible information under which the targets say nothing."""
    patience: int = PATIENCE
    transient: int = 100

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        information = row.values.get("teacher_information", math.nan)
        if math.isnan(information):
            return state, None
        state = persist(state, row.step, information < self.information)
        if not lasting(state, self.patience, self.transient):
            return state, None
        undecided = row.values.get("teacher_entropy", math.nan)
        how = "are the same for every input"
        if not math.isnan(undecided):
            how += ": uniform" if undecided > 0.5 else ": one prototype"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the teacher's targets {how} ({information:.2%} of the possible information){at(row.site)} "
            f"{since(state)}; the student learns a constant.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
