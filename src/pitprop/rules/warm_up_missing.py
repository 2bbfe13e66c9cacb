"""The first steps threw the network: the loss rose at once and the gradient jumped.

## What it detects
In the first rows the gradient of the whole network grows tenfold, and ten rows on the loss is over where it began.

## Why it matters
At initialisation curvature is largest and Adam's second moments are guesses from a handful of batches; a full-size
step then leaves the region for which the initialisation was made. Some runs recover slowly, some stay at a worse
level, and the loss curve is read as a hard task.

## Reads
`loss` and `whole_gradient_norm` (over all parameters), at the run.

## Threshold
* The median loss of rows 6 to 15 over the first, by 10 %.
* And the largest gradient norm of the first 10 rows over ten times the first one. Both numbers are conventions; it
  takes both, because a noisy loss may rise and a zero-initialised path that wakes up multiplies the gradient.
* Judged once, at row 20. The trace's first row must be the run's.

## When it is wrong
A first batch that is easy by chance, with small batches. A resumed run whose optimizer begins anew does just this, and
is found rightly. A trace whose first rows are far apart is not judged by its first steps but by what it has. Measured:
no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
A warm-up of the learning rate (`Knob`), or a smaller `LearningRate`; normalisation in front of branches.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [
...     Row(step=t, site=RUN, values={"loss": 2.3 if t < 1 else 9.0, "whole_gradient_norm": 1.0 if t < 1 else 80.0})
...     for t in range(40)
... ]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(WarmUpMissing(),))]
[('warning', 0, 19)]

## References
Catalogue of failure modes, mode 33. Xiong et al., "On layer normalization in the Transformer architecture", arXiv
2002.04745. Liu et al., "On the variance of the adaptive learning rate and beyond", arXiv 1908.03265.
"""

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN, WARM_UP
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Rows seen, step of the first, and losses and gradient norms of the first rows."""

    rows: int
    step: int
    losses: tuple[float, ...]
    norms: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class WarmUpMissing:
    """The first steps are too large for the initialisation."""

    name: ClassVar[str] = "warm-up-missing"
    reads: ClassVar[tuple[str, ...]] = ("loss", "whole_gradient_norm")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "LearningRate")
    shelf: ClassVar[Shelf] = "stable"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    rise: float = 1.1
    """Loss ten rows on, over the first."""
    jump: float = 10.0
    """Largest gradient norm of the first ten rows, over the first."""

    def init(self) -> State:
        return State(0, -1, (NAN,) * WARM_UP, (NAN,) * 10)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        loss = row.values.get("loss", math.nan)
        norm = row.values.get("whole_gradient_norm", math.nan)
        if state.rows == WARM_UP or (math.isnan(loss) and math.isnan(norm)):
            return state, None
        first_step = state.step if state.rows else row.step
        norms = (*state.norms[: state.rows], norm, *state.norms[state.rows + 1 :]) if state.rows < 10 else state.norms
        losses = (*state.losses[: state.rows], loss, *state.losses[state.rows + 1 :])
        state = State(state.rows + 1, first_step, losses, norms)
        if state.rows < WARM_UP:
            return state, None
        later = [v for v in losses[5:15] if not math.isnan(v)]
        peaks = [v for v in norms[1:] if not math.isnan(v)]
        if not (later and peaks and losses[0] > 0 and norms[0] > 0):
            return state, None
        level, growth = statistics.median(later) / losses[0], max(peaks) / norms[0]
        if not (level > self.rise and growth > self.jump):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.step,
            detected=row.step,
            message=f"within ten rows the loss went to {level:.2g} times its start of {losses[0]:.3g} and the gradient "
            f"to {growth:.2g} times{at(row.site)} since step {state.step}; the first steps were too large.",
            evidence={"loss_first": losses[0], "loss_growth": level, "gradient_growth": growth},
            remedies=self.remedies,
        )
