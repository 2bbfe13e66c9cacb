"""The averaged weights stay worse than the weights that they average.

## What it detects
The loss of the averaged model (EMA) is over that of the trained one, at every evaluation, for longer than three of its
memories.

## Why it matters
An average is a read-only function of the run: it can't disturb training, and nothing shows that it has gone wrong
until it is what gets evaluated and shipped. A decay too close to 1, an average that is not updated, and a copy whose
flags differ from the model's do this.

## Reads
`ema_gap` (loss of the averaged model minus that of the trained one, on the same data), `ema_decay` (d) and `ema_drift`
(|w - average| / |w|, from `pitprop.watch.ema.ema_drift`): the loop logs them, at the run.

## Threshold
* The sign of the gap, so it may have any unit: over 0 in every row.
* For more than 3 / (1 - d) steps: an average has forgotten 95 % of its start by then, so being late is no excuse. And
  for 5 rows, so that one evaluation is no verdict (a convention).

## When it is wrong
In a fast phase an average is behind by design, and three memories can be less than the phase. Gaps that are nothing
but noise rarely keep their sign for three memories, but a fully converged run may. Without `ema_decay` the rule is
silent. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
A smaller decay (`Knob`), or one that warms up; compare the module flags of the copy with the model's.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"ema_gap": 0.2, "ema_decay": 0.9375}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(EmaDrift(),))]
[('warning', 0, 49)]

## References
Catalogue of failure modes, modes 22 and 23; derivation T8. The flags of the copy: the system behind the case
`grid_solver`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN, Persistence, persist
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Decay of the average, and how long it has been behind."""

    decay: float
    behind: Persistence


@dataclass(frozen=True, kw_only=True)
class EmaDrift:
    """The averaged model stays behind."""

    name: ClassVar[str] = "ema-drift"
    reads: ClassVar[tuple[str, ...]] = ("ema_gap", "ema_drift", "ema_decay")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Knob",)
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    memories: float = 3.0
    """Memories, 1 / (1 - decay) steps each, for which an average may be behind."""
    patience: int = 5
    """Evaluations, at least."""

    def init(self) -> State:
        return State(NAN, Persistence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        decay = row.values.get("ema_decay", math.nan)
        if 0 < decay < 1:
            state = state._replace(decay=decay)
        gap = row.values.get("ema_gap", math.nan)
        if math.isnan(gap):
            return state, None
        state = state._replace(behind=persist(state.behind, row.step, gap > 0))
        steps = row.step - state.behind.onset
        if state.behind.count < self.patience or not steps > self.memories / (1 - state.decay):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.behind.onset,
            detected=row.step,
            message=f"the averaged weights' loss is {gap:.3g} over the trained ones'{at(row.site)}, and was so for "
            f"{steps} steps, {steps * (1 - state.decay):.1f} times the average's memory; it is not merely late.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
