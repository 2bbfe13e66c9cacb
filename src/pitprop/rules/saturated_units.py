"""Most units of a tanh or sigmoid sit where their derivative is nothing.

## What it detects
More than half of the units of a site have a derivative under 1 % of its maximum: since the first row (warning), or
since some step of the training (note).

## Why it matters
A saturated unit passes hardly any gradient, so what feeds it stops learning. A bottleneck that is saturated at
initialisation cuts everything before it off from the loss; the outputs then become one answer while attention entropy
stays healthy.

## Reads
`saturated_share` (share of units with a derivative under 1 % of the maximum) at the site whose tanh or sigmoid ran.

## Threshold
* Share over 0.5 in every row from the first, for 40 rows: a warning. At a healthy random initialisation the share is
  near 0 (a standard normal pre-activation gives 0.3 % for tanh), so a majority is far from it; a half is a convention.
* Share risen over 0.5 for 20 rows, with the e-detector past a run length of 10 000 rows: a note only, because a gate
  that closes and an output that becomes sure look the same.

## When it is wrong
A gate that is initialised open (bias +10) is saturated by design and warned about. Confident outputs, closed gates
and binary codes saturate healthily: hence the note. Fused recurrent kernels show no tanh to watch. Measured: no alarm
on 200 healthy AR(1) series of 3000 rows.

## Remedies
Bring the pre-activation to unit size: normalise it, or average tokens where they were summed; draw the weights again.

## Example
Fifty layer-normalised tokens summed before a tanh:

>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="neck", values={"saturated_share": 0.92}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(SaturatedUnits(),))]
[('warning', 0, 39)]

## References
Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010
(saturation). Catalogue of failure modes, mode 13; measured in the case `model_merging`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._majority import MAJORITY, State, new_state, watch_share
from pitprop.rules._online import LOG_EVIDENCE, PATIENCE, TRANSIENT
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class SaturatedUnits:
    """Units pass no gradient because they are saturated."""

    name: ClassVar[str] = "saturated-units"
    reads: ClassVar[tuple[str, ...]] = ("saturated_share",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("unit-rms", "mean-pool", "Knob", "Reinitialise")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    majority: float = MAJORITY
    """Share of saturated units over which the site is saturated."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return new_state()

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        share = row.values.get("saturated_share", math.nan)
        state, seen = watch_share(
            state, row.step, share, majority=self.majority, patience=self.patience, transient=self.transient
        )
        if seen is None:
            return state, None
        meaning = "a gate that closed, an output that is sure, or a site that stopped learning"
        if seen.from_start:
            meaning = "what feeds them gets hardly any gradient"
        shifted = {"saturated_share_reference": seen.reference, LOG_EVIDENCE: seen.log_evidence}
        return state, Finding(
            rule=self.name,
            severity=self.severity if seen.from_start else "note",
            site=row.site,
            onset=seen.onset,
            detected=row.step,
            message=f"{share:.0%} of the units are saturated{at(row.site)} {seen.since}; {meaning}.",
            evidence={"saturated_share": share} | ({} if seen.from_start else shifted),
            remedies=self.remedies,
        )
