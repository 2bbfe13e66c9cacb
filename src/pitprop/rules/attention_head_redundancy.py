"""The heads of an attention do the same.

## What it detects
What the heads' maps have beyond uniform attention points the same way: a mean cosine over 0.9 between two heads.

## Why it matters
It is a cofactor: redundant heads are usual in trained models, can be taken away without loss, and cost what they cost.
A whole attention of one head's worth of pattern explains why another one did not learn.

## Reads
`head_redundancy` (mean cosine over all pairs of heads) at attention sites. Measured by itself, or
`watch.tap_attention(name, q, k)`.

## Threshold
Over 0.9 for 20 rows and not before row 40. 0 is independent heads, 1 is copies; 0.9 leaves a tenth of the pattern's
power to differ, and is a convention.

## When it is wrong
As a note it can only be beside the point. A sink that all heads share makes them alike (`attention-sink` says so).
Heads that are uniform have no pattern and are left out.

## Remedies
`Ablate` says whether the attention matters at all; head dropout or fewer heads by a knob.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="attn", values={"head_redundancy": 0.1 if t < 80 else 0.97}) for t in range(120)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AttentionHeadRedundancy(),))]
[('note', 80, 99)]

## References
Michel, Levy and Neubig, "Are sixteen heads really better than one?", arXiv 1905.10650. Catalogue, mode 40.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class AttentionHeadRedundancy:
    """Heads are copies of each other; a cofactor."""

    name: ClassVar[str] = "attention-head-redundancy"
    reads: ClassVar[tuple[str, ...]] = ("head_redundancy",)
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("Ablate", "Knob")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    alike: float = 0.9
    """Mean cosine over which heads do the same."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        cosine = row.values.get("head_redundancy", math.nan)
        if math.isnan(cosine):
            return state, None
        state = persist(state, row.step, cosine > self.alike)
        if not lasting(state, self.patience, self.transient):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the heads' patterns have a mean cosine of {cosine:.3f}{at(row.site)} {since(state)}; "
            "they do one head's work, which may be all there is.",
            evidence={"head_redundancy": cosine},
            remedies=self.remedies,
        )
