"""A branch can be taken away and the loss does not rise.

## What it detects
Shuffling or zeroing what a branch adds does not raise the loss in most batches: after it did, or in all of the run so
far.

## Why it matters
The other branches explain the target and leave it no gradient (gradient starvation), or it was drowned. Its parameters
cost memory and steps, and what only its modality could tell is missing where the others are wrong.

## Reads
`ablation_gap`, (L_without - L) / |L| of one batch, at the site of the branch:

    from pitprop.watch.by_hand import paired_gap
    if watch.sampling:
        gap = paired_gap(model, lambda: loss(model(v, a), y), lambda: loss(model(v, 0 * a), y))
        watch.log(ablation_gap={"audio": gap})

## Threshold
The same sign test as `condition-ignored`: null hypothesis "three of four batches have a positive gap", anytime-valid at
one false alarm in 10 000 rows, the first 100 rows not counted (conventions both).

## When it is wrong
Two branches that can each do the other's work both look lazy: ablate them together. A branch for rare cases (one batch
in ten) is used and looks lazy. The training loss may not need what the held-out loss does, so this is a warning that
names the trial, not a verdict. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
`Ablate` settles it as a trial on held-out loss and several seeds. Then matching its norm, or dropping the other
modality at random.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="audio", values={"ablation_gap": 0.0}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(BranchLaziness(),))]
[('warning', 0, 109)]

## References
Pezeshki et al., "Gradient starvation", arXiv 2011.09468. Wang, Tran and Feiszli, "What makes training multi-modal
classification networks hard?", arXiv 1905.12681. Catalogue, mode 8.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import LOG_EVIDENCE
from pitprop.rules._rule import Shelf, at
from pitprop.rules._unused import TRANSIENT, Unused, judge, onset, unused


@dataclass(frozen=True, kw_only=True)
class BranchLaziness:
    """Ablating a branch costs nothing."""

    name: ClassVar[str] = "branch-laziness"
    reads: ClassVar[tuple[str, ...]] = ("ablation_gap",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Ablate", "norm-match", "LearningRate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    transient: int = TRANSIENT

    def init(self) -> Unused:
        return Unused()

    def update(self, state: Unused, row: Row) -> tuple[Unused, Finding | None]:
        gap = row.values.get("ablation_gap", math.nan)
        state = judge(state, row.step, gap, self.transient)
        if math.isnan(gap) or not unused(state):
            return state, None
        since = f"since step {onset(state)}" if state.was_used else "in any of the run's rows so far"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset(state),
            detected=row.step,
            message=f"taking the branch away does not raise the loss in most batches{at(row.site)} {since} "
            f"(last gap {gap:.1e}); trial to settle it: --ablate.",
            evidence={"ablation_gap": gap, LOG_EVIDENCE: state.without.log_sum, "rows": float(state.rows)},
            remedies=self.remedies,
        )
