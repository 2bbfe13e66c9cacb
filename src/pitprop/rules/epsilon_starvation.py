"""Adam's steps are set by its epsilon: the gradient is too small for it.

## What it detects
For most coordinates of a module sqrt(v) is under 10 eps: since the first row (warning), or since some step of the
training (note).

## Why it matters
Adam's step is lr m / (sqrt(v) + eps). It is free of the gradient's scale only while sqrt(v) is far over eps; under it,
Adam is SGD with a tiny step, and the learning rate means nothing. A loss that is averaged or scaled down, halves that
flush small gradients, and very wide layers get there.

## Reads
`starved_share` (share of coordinates with sqrt(v) < 10 eps, of those that ever had a gradient) and `step_scale` (RMS
of the update over the learning rate; near 0.2 to 1 in a healthy run), at modules that Adam trains.

## Threshold
* At sqrt(v) = 10 eps a step is cut by 9 %: where eps begins to act. Its 10 is a convention.
* Share over 0.5 in every row from the first, for 40 rows: a warning. A half is a convention.
* Share risen over 0.5 for 20 rows, with the e-detector past a run length of 10 000 rows: a note, because the gradients
  of a run that has converged are small by right.

## When it is wrong
An epsilon that was made large on purpose (1e-3 for some recipes, 1 for RMSprop-like ones) is always over the line.
Biases in front of a normalisation have rounding for a gradient and are starved by right; they count with their module.
Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
A smaller epsilon (1e-15) or a loss scaled up, both by `Knob`.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="head", values={"starved_share": 1.0, "step_scale": 0.01}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(EpsilonStarvation(),))]
[('warning', 0, 39)]

## References
Catalogue of failure modes, mode 30. Wortsman et al., "Small-scale proxies for large-scale Transformer training
instabilities", arXiv 2309.14322.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._majority import MAJORITY, State, new_state, watch_share
from pitprop.rules._online import LOG_EVIDENCE, PATIENCE, TRANSIENT
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class EpsilonStarvation:
    """Adam's epsilon sets the step."""

    name: ClassVar[str] = "epsilon-starvation"
    reads: ClassVar[tuple[str, ...]] = ("starved_share", "step_scale")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "LearningRate")
    shelf: ClassVar[Shelf] = "stable"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    majority: float = MAJORITY
    """Share over which it is most of them."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return new_state()

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        share = row.values.get("starved_share", math.nan)
        state, seen = watch_share(
            state, row.step, share, majority=self.majority, patience=self.patience, transient=self.transient
        )
        if seen is None:
            return state, None
        meaning = (
            "eps, not Adam, sets the size of their steps"
            if seen.from_start
            else "converged, or cut off from a loss that is still large"
        )
        known = {} if seen.from_start else {"starved_share_reference": seen.reference, LOG_EVIDENCE: seen.log_evidence}
        return state, Finding(
            rule=self.name,
            severity=self.severity if seen.from_start else "note",
            site=row.site,
            onset=seen.onset,
            detected=row.step,
            message=f"sqrt(v) is under 10 eps for {share:.0%} of the entries{at(row.site)} {seen.since}; {meaning}.",
            evidence={k: row.values[k] for k in self.reads if k in row.values} | known,
            remedies=self.remedies,
        )
