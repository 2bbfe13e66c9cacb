"""A branch drowns the stream that it is added to.

## What it detects
What a residual branch adds is more than ten times as long as the stream it is added to, row after row.

## Why it matters
After the next normalisation the sum points where the branch points, and what the stream carried is a rounding error in
it. The gradient to the stream shrinks by about |x| / |x + a c|: dilution by norm, not absorption. A new branch with a
context of large norm does this to a trained network in one step.

## Reads
`branch_ratio` (norm of the branch over norm of the stream) at residual branches.

## Threshold
Over 10 for 20 rows, and not before row 40. The scale is 1, where both count alike; an order of magnitude above it is a
convention. At 10 and a normalised head, the gradient to the stream is about a tenth.

## When it is wrong
The first block after a small embedding (standard deviation 0.02) starts near or over 10 in healthy models and falls as
the embedding grows; it is reported if that takes more than 40 rows. A branch that is meant to replace the stream does
so. The query path can give the stream back what dilution takes, and Adam hides a constant dilution: a trial decides.

## Remedies
Matching the branch's norm gives 1 / sqrt(1 + a^2) whatever the context; a zero-initialised output projection gives
exactly 1 at the start.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="adapter", values={"branch_ratio": 0.4 if t < 50 else 25.0}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(BranchDomination(),))]
[('warning', 50, 69)]

## References
Derivation T4 and mode 7 of the catalogue; the norm of 17 per token in the case `clip_anomaly`. De and Smith, "Batch
normalization biases residual blocks towards the identity function in deep networks", arXiv 2002.10444.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class BranchDomination:
    """A residual branch outweighs its stream by an order of magnitude."""

    name: ClassVar[str] = "branch-domination"
    reads: ClassVar[tuple[str, ...]] = ("branch_ratio",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("norm-match", "zero-init-projection", "layer-scale", "Scale", "Ablate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    ratio: float = 10.0
    """Norm of the branch over norm of the stream, over which the stream is drowned."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        ratio = row.values.get("branch_ratio", math.nan)
        if math.isnan(ratio):
            return state, None
        state = persist(state, row.step, ratio > self.ratio)
        if not lasting(state, self.patience, self.transient):
            return state, None
        kept = 1 / math.hypot(1, ratio)
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the branch is {ratio:.3g} times as long as its stream{at(row.site)} {since(state)}; "
            f"a normalised head sends about {kept:.1%} of the gradient past it.",
            evidence={"branch_ratio": ratio, "predicted_gradient_share": kept},
            remedies=self.remedies,
        )
