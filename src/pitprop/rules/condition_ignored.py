"""The model does as well with somebody else's condition.

## What it detects
Giving every sample its neighbour's condition does not raise the loss in most batches: after it did (failure), or in all
of the run so far (warning).

## Why it matters
The model has become unconditional. Its loss can still be good, because the target is mostly explained by the rest of
the input, and samples look fine one by one; only the pairing is lost.

## Reads
`condition_gap`, (L_shuffled - L) / |L| of one batch, at the run or at a named condition:

    from pitprop.watch.by_hand import paired_gap
    if watch.sampling:
        gap = paired_gap(model, lambda: loss(model(x, c), y), lambda: loss(model(x, c.roll(1, 0)), y))
        watch.log(condition_gap=gap)

The helper computes both losses on the same random numbers, without gradients, and puts buffers and generators back.
Several conditions: `condition_gap={"text": ..., "class": ...}`.

## Threshold
Anytime-valid: if at least three of four batches have a positive gap, given the past, this fires no sooner than once in
10 000 rows. A condition without effect (a fair coin) is found in 60 to 80 rows, an exact zero in about 10. The first
100 rows don't count: the marginal is learned first, and a zero-initialised path has a gap of exactly 0. Both are
conventions.

## When it is wrong
It sees signs, not sizes: a gap of 1e-6 in every batch is use. A condition that its neighbour mostly shares (few
classes, sorted batches) rarely changes when it is rolled. Contexts that are learned after more than 100 rows get the
warning first; it is about the run so far. Measured: no alarm on 200 healthy AR(1) series of 3000 rows. In tiny
trainings (3 seeds each) wrongly paired conditions were warned about, and a zero-initialised path that wakes up was left
alone.

## Remedies
`ShuffleCondition` settles it as a trial, on held-out data and several seeds. Then a larger step size for the
condition's path, or a branch that is not drowned.

## Example
A gap that is there for 200 steps and then a coin:

>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"condition_gap": 0.1 if t < 200 or t % 2 else -0.1}) for t in range(400)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(ConditionIgnored(),))]
[('failure', 200, 256)]

## References
Ho and Salimans, "Classifier-free diffusion guidance", arXiv 2207.12598. Shin, Ramdas and Rinaldo, arXiv 2203.03532
(e-detectors). Catalogue, mode 17.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import LOG_EVIDENCE
from pitprop.rules._rule import Shelf, at
from pitprop.rules._unused import TRANSIENT, Unused, judge, onset, unused


@dataclass(frozen=True, kw_only=True)
class ConditionIgnored:
    """Shuffling the condition costs nothing."""

    name: ClassVar[str] = "condition-ignored"
    reads: ClassVar[tuple[str, ...]] = ("condition_gap",)
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("ShuffleCondition", "LearningRate", "norm-match", "zero-init-projection")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    transient: int = TRANSIENT

    def init(self) -> Unused:
        return Unused()

    def update(self, state: Unused, row: Row) -> tuple[Unused, Finding | None]:
        gap = row.values.get("condition_gap", math.nan)
        state = judge(state, row.step, gap, self.transient)
        if math.isnan(gap) or not unused(state):
            return state, None
        lost = bool(state.was_used)
        since = f"since step {onset(state)}, although it did before" if lost else "in any of the run's rows so far"
        return state, Finding(
            rule=self.name,
            severity=self.severity if lost else "warning",
            site=row.site,
            onset=onset(state),
            detected=row.step,
            message=f"shuffling the condition does not raise the loss in most batches{at(row.site)} {since} "
            f"(last gap {gap:.1e}); trial to settle it: --shuffle-condition.",
            evidence={"condition_gap": gap, LOG_EVIDENCE: state.without.log_sum, "rows": float(state.rows)},
            remedies=self.remedies,
        )
