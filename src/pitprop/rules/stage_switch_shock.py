"""Parts of the model were switched on or off, and the loss jumped with it.

## What it detects
The number of modules that get a gradient changes, after it was constant for 20 rows, and the ten losses from there on
are over those before.

## Why it matters
A stage that begins with random weights, or with an optimizer whose memory is of another model, undoes what was
learned; a flag that is set in training and forgotten in an evaluation copy does it unseen. The next days are spent on
the wrong cause, because the loss recovers or collapses many steps later.

## Reads
`num_trained` (modules with a gradient) and `loss`, at the run.

## Threshold
* A change of the count is exact. A count that isn't constant (experts, stochastic depth) is never a stage.
* Median log loss of ten rows over that of the 20 before by three robust standard deviations, and by 20 % at least. Both
  are conventions of this rule, lower than those of `loss-spike`, because there is a cause at hand.
* Or the first of them by six deviations and 20 %, and the median by one: before any update, the loss of the row at the
  switch says what the switch itself does, and one that is the identity leaves it where it was. The median keeps away
  what is over after four rows; one deviation is two standard errors of the difference between these medians (of
  independent rows).

## When it is wrong
A stage that brings its own loss term raises the loss by right. A switch that coincides with a harder batch. A module
that multiplies by zero before its stage has a gradient and counts all along: `stale-second-moment` and `loss-spike`
see that one. Between sampled rows the switch's step is known only as far as the rows, and so is the row at the switch:
then the median judges alone. What raises the loss some rows later only (a ramp, the first updates of a stage that
starts as nothing) is left to the median too. Measured: no alarm on 200 healthy AR(1) series of 3000 rows, which have no
switch, as the runs of the card have none but the fault. At a switch that does nothing, of 1000 series each with a log
loss of deviation 0.03, 0.1 and 0.3: 0, 0 and 0 alarms where rows are independent, 1, 1 and 1 with the tails of a
Student t of 3 degrees (by the row at the switch), 0, 12 and 40 at an autocorrelation of 0.9, 0, 0 and 69 at 0.98 (by
the median).

## Remedies
`Stage` (a ramp that is a function of the step), `zero-init-projection` for what is switched on, `ResetOptimizer`; the
paired trial is the same state with and without the switch (`Ablate`).

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [
...     Row(step=t, site=RUN, values={"loss": 0.5 if t < 50 else 2.0, "num_trained": 10 if t < 50 else 14})
...     for t in range(100)
... ]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(StageSwitchShock(),))]
[('warning', 50, 59)]

## References
Catalogue of failure modes, mode 38; the hard switch and the forgotten flag of the system behind the case
`grid_solver`.
"""

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN, WARM_UP, robust
from pitprop.rules._rule import Shelf, at

AFTER = 10
"""Losses that judge a switch."""


class State(NamedTuple):
    """Log losses while the count was constant, those since it was last seen so, and the count."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    step: int
    """Step of the first of `after`."""
    count: float
    rows: int
    """Rows for which the count has been constant."""
    switched_to: float
    """The new count, while its losses are awaited; NaN otherwise."""


@dataclass(frozen=True, kw_only=True)
class StageSwitchShock:
    """A stage was switched, and the loss jumped."""

    name: ClassVar[str] = "stage-switch-shock"
    reads: ClassVar[tuple[str, ...]] = ("num_trained", "loss")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Stage", "zero-init-projection", "ResetOptimizer", "Ablate")
    shelf: ClassVar[Shelf] = "stable"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    deviations: float = 3.0
    """Robust standard deviations of the log loss before the switch."""
    rise: float = 1.2
    """Growth of the loss, at least."""
    at_once: float = 6.0
    """Robust standard deviations by which the first loss after the switch speaks alone, ..."""
    kept: float = 1.0
    """... while the median is over by so many."""

    def init(self) -> State:
        return State((NAN,) * WARM_UP, (NAN,) * AFTER, -1, NAN, 0, NAN)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        loss = row.values.get("loss", math.nan)
        count = row.values.get("num_trained", math.nan)
        if math.isfinite(loss) and loss > 0:
            state = _add(state, row.step, math.log(loss))
        if not math.isnan(count) and math.isnan(state.switched_to):
            if count == state.count:
                state = _settle(state)._replace(rows=state.rows + 1)
            elif state.rows >= WARM_UP:
                state = state._replace(switched_to=count)
            else:
                state = _settle(state)._replace(count=count, rows=1)
        if math.isnan(state.switched_to) or math.isnan(state.after[-1]):
            return state, None
        before = [v for v in state.before if not math.isnan(v)]
        onset, known, now = state.step, len(before) == WARM_UP, state.switched_to
        then, waited, level = state.count, state.after, statistics.median(state.after)
        state = _settle(state)._replace(count=now, rows=1, switched_to=NAN)
        if not known:
            return state, None
        centre, spread = robust(before)
        first, grown = waited[0] - centre, math.log(self.rise)
        jumped = first > max(self.at_once * spread, grown) and level - centre > self.kept * spread
        if not (jumped or level - centre > max(self.deviations * spread, grown)):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"modules with a gradient went from {then:.0f} to {now:.0f} and the loss from "
            f"{math.exp(centre):.3g} to {math.exp(waited[0]):.3g}{at(row.site)} at step {onset} and "
            f"{math.exp(level):.3g} since; the switch undid what was learned.",
            evidence={
                "num_trained_before": then,
                "num_trained": now,
                "loss_growth_at_once": math.exp(first),
                "loss_growth": math.exp(level - centre),
            },
            remedies=self.remedies,
        )


def _add(state: State, step: int, value: float) -> State:
    """One more log loss; where no count settles them, the oldest settles by itself."""
    known = [v for v in state.after if not math.isnan(v)]
    if len(known) == AFTER:
        return state._replace(before=(*state.before[1:], known[0]), after=(*known[1:], value))
    after = (*known, value, *(NAN,) * (AFTER - len(known) - 1))
    return state._replace(after=after, step=state.step if known else step)


def _settle(state: State) -> State:
    """What waited belongs to the time before any switch."""
    known = [v for v in state.after if not math.isnan(v)]
    before = (*state.before, *known)[-WARM_UP:]
    return state._replace(before=before, after=(NAN,) * AFTER, step=-1)
