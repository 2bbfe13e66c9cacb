"""A low-rank adapter that has not moved: what is trained is not the adapter.

## What it detects
The adapter's product B A is exactly zero long after the start, or its B has moved by less than a tenth of a random
walk of as many steps.

## Why it matters
LoRA begins as nothing (B = 0) and wakes in the first step. With A = 0 as well, without gradient, or outside of the
optimizer it stays nothing, the loss is that of the frozen base, and nothing fails.

## Reads
`adapter_ratio` (|B A|_2 over |W|_2) and `displacement_ratio` (RMS of B over lr sqrt(steps), where B began at zero and
the optimizer divides gradients by their size), at the module that holds the adapter.

## Threshold
* Exact: a ratio of 0.
* A displacement under 0.1. Adam moves each weight by about lr per step, so lr sqrt(steps) is where pure noise would
  have taken it; a tenth of it, an order of magnitude, is a convention.
* For 20 rows, and not before row 40.

## When it is wrong
A learning rate that is far over its past mean (a long warm-up) makes the walk look too long. An adapter that a stage
will use later is asleep by design. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
`Reinitialise` (A random, B zero), and a look at what the optimizer holds; then a larger `LearningRate` of B.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="q_proj", values={"adapter_ratio": 0.0}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AdapterAsleep(),))]
[('failure', 0, 39)]

## References
Catalogue of failure modes, mode 11. Hu et al., "LoRA", arXiv 2106.09685. Hayou, Ghosh and Yu, "LoRA+", arXiv
2402.12354 (B wants the larger learning rate).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class AdapterAsleep:
    """A low-rank adapter stays what it was."""

    name: ClassVar[str] = "adapter-asleep"
    reads: ClassVar[tuple[str, ...]] = ("adapter_ratio", "displacement_ratio")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Reinitialise", "LearningRate", "Knob")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    walk: float = 0.1
    """Displacement, as a share of a random walk's, under which the adapter has not moved."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        ratio = row.values.get("adapter_ratio", math.nan)
        moved = row.values.get("displacement_ratio", math.nan)
        if math.isnan(ratio) and math.isnan(moved):
            return state, None
        state = persist(state, row.step, ratio == 0 or 0 <= moved < self.walk)
        if not lasting(state, self.patience, self.transient):
            return state, None
        seen = "exactly nothing" if ratio == 0 else f"at {moved:.2g} of what a random walk would have made it"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the adapter is {seen}{at(row.site)} {since(state)}; the model is its frozen base there.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
