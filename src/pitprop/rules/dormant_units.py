"""Most units of a ReLU are silent on every sample of a batch.

## What it detects
More than half of the units of a ReLU are exactly zero on all samples that were looked at: since the first row
(warning), or since some step of the training (note).

## Why it matters
A unit that is never active passes no gradient, so no step can bring it back: the layer is narrower for good. A step
that is too large, a bias that drifted, or a change of the inputs' distribution kills many at once.

## Reads
`dead_share` (units that are zero on up to 256 samples) at the site whose ReLU ran. By the rule of three, a unit that
is silent on 256 samples is active on fewer than 1.2 %, at 95 % confidence.

## Threshold
* Share over 0.5 in every row from the first, for 40 rows: a warning. A healthy random initialisation has none; a half
  is a convention.
* Share risen over 0.5 for 20 rows, with the e-detector past a run length of 10 000 rows: a note only.

## When it is wrong
Sparse by training is healthy: in large language models with ReLU most units of a layer are silent on any 256 tokens,
and each wakes for its own kind. Hence the note. Units that are dead only together over several batches aren't told
apart. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
`Reinitialise` the dead ones; a smaller `LearningRate`; a ReLU with a slope, or a normalisation in front (`unit-rms`).

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="mlp.1", values={"dead_share": 0.9}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(DormantUnits(),))]
[('warning', 0, 39)]

## References
Catalogue of failure modes, mode 27. Sokar et al., "The dormant neuron phenomenon", arXiv 2302.12902. Dohare et al.,
"Loss of plasticity in deep continual learning", Nature 2024.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._majority import MAJORITY, State, new_state, watch_share
from pitprop.rules._online import LOG_EVIDENCE, PATIENCE, TRANSIENT
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class DormantUnits:
    """Units of a ReLU are dead."""

    name: ClassVar[str] = "dormant-units"
    reads: ClassVar[tuple[str, ...]] = ("dead_share",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Reinitialise", "LearningRate", "unit-rms")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    majority: float = MAJORITY
    """Share over which it is most of them."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return new_state()

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        share = row.values.get("dead_share", math.nan)
        state, seen = watch_share(
            state, row.step, share, majority=self.majority, patience=self.patience, transient=self.transient
        )
        if seen is None:
            return state, None
        meaning = (
            "they get no gradient and can't come back"
            if seen.from_start
            else "sparse by training, or killed by steps that were too large"
        )
        known = {} if seen.from_start else {"dead_share_reference": seen.reference, LOG_EVIDENCE: seen.log_evidence}
        return state, Finding(
            rule=self.name,
            severity=self.severity if seen.from_start else "note",
            site=row.site,
            onset=seen.onset,
            detected=row.step,
            message=f"{share:.0%} of the units are silent on every sample{at(row.site)} {seen.since}; {meaning}.",
            evidence={k: row.values[k] for k in self.reads if k in row.values} | known,
            remedies=self.remedies,
        )
