"""The averaged weights stay worse than the weights that they average.

## What it detects
The loss of the averaged model (EMA) is over that of the trained one, and over what the trained one's was three of the
average's memories ago, for longer than three memories.

## Why it matters
An average is a read-only function of the run: it can't disturb training, and nothing shows that it has gone wrong
until it is what gets evaluated and shipped. A decay too close to 1, an average that is not updated, and a copy whose
flags differ from the model's do this.

## Reads
`ema_loss` and `trained_loss` (of the averaged and the trained weights, on the same data), `ema_decay` (d), and
`ema_drift` (|w - average| / |w|, from `pitprop.watch.ema.ema_drift`) as evidence: the loop logs them, at the run.

## Threshold
* Over both, so the losses may have any unit. An average is late by 1 / (1 - d) steps, so it is worse than the newest
  weights while these improve fast; but 95 % of it is younger than 3 / (1 - d) steps, so it should not be worse than
  weights of that age (3 to 6 memories, as they are kept).
* For more than 3 / (1 - d) steps, and for 5 rows, so that one evaluation is no verdict (a convention).

## When it is wrong
Where losses are flat and noisy an average could be over both by chance; it rarely is, because averaging takes noise
out. While the trained loss rises, nothing can be said. Without `ema_decay` the rule is silent. Measured: no alarm on
200 healthy AR(1) series of 3000 rows.

## Remedies
A smaller decay (`Knob`), or one that warms up; compare the module flags of the copy with the model's.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> given = {"ema_loss": 2.0, "trained_loss": 0.5, "ema_decay": 0.9375}
>>> rows = [Row(step=t, site=RUN, values=given) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(EmaDrift(),))]
[('warning', 48, 97)]

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
    """Decay of the average, how long it has been behind, and two losses of the trained weights with their steps."""

    decay: float
    behind: Persistence
    step: int
    loss: float
    """The younger one, at `step`; it becomes the old one when it is as old as three memories."""
    old: float


@dataclass(frozen=True, kw_only=True)
class EmaDrift:
    """The averaged model stays behind."""

    name: ClassVar[str] = "ema-drift"
    reads: ClassVar[tuple[str, ...]] = ("ema_loss", "trained_loss", "ema_decay", "ema_drift")
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
        return State(NAN, Persistence(), -1, NAN, NAN)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        decay = row.values.get("ema_decay", math.nan)
        if 0 < decay < 1:
            state = state._replace(decay=decay)
        average, trained = (row.values.get(name, math.nan) for name in ("ema_loss", "trained_loss"))
        if not (math.isfinite(average) and math.isfinite(trained)) or math.isnan(state.decay):
            return state, None
        memories = self.memories / (1 - state.decay)
        if math.isnan(state.loss):
            state = state._replace(step=row.step, loss=trained)
        elif row.step - state.step >= memories:
            state = state._replace(step=row.step, loss=trained, old=state.loss)
        if math.isnan(state.old):
            return state, None
        state = state._replace(behind=persist(state.behind, row.step, average > max(trained, state.old)))
        steps = row.step - state.behind.onset
        if state.behind.count < self.patience or not steps > memories:
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.behind.onset,
            detected=row.step,
            message=f"the averaged weights' loss {average:.3g} is over the trained ones' {trained:.3g}{at(row.site)} "
            f"and over their old {state.old:.3g}, since step {state.behind.onset}; it is not merely late.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
