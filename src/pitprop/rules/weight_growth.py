"""Weights have outgrown their steps: the same learning rate now turns them far less.

## What it detects
The RMS of a module's weights is ten times what it was during the warm-up.

## Why it matters
Where a normalisation follows, only a weight's direction counts, and a step of the same size turns a weight of ten
times the length by a tenth of the angle: the learning rate has fallen by itself. Weight decay holds the length where a
step turns it by sqrt(2 lr wd); without decay it grows for ever.

## Reads
`weight_rms` at modules that own parameters; `rotation_ratio` (angle per step over sqrt(2 lr wd)) as evidence, where
there is decay.

## Threshold
Ten times the warm-up median (an order of magnitude, a convention) for 20 rows, and the e-detector on the logarithm
past a run length of 10 000 rows. Weights that were zero in some row are left out for good: what starts at nothing
grows without bound.

## When it is wrong
A note only. Where no normalisation follows, a growing weight is a growing function: logits that become sure, an
embedding that was drawn small. Biases count with their module, so a zero weight beside a bias that is not has grown
from next to nothing. Measured: no alarm on 200 healthy AR(1) series of 3000
rows.

## Remedies
`WeightDecay` on the weights in front of normalisations; a `LearningRate` that makes up for the loss, by trial.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="conv", values={"weight_rms": 0.05 if t < 50 else 0.9}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(WeightGrowth(),))]
[('note', 50, 69)]

## References
Catalogue of failure modes, mode 26. Kosson, Messmer and Jaggi, "Rotational equilibrium", arXiv 2305.17212. Norms of 91
to 154 behind a norm match: the system behind the case `clip_anomaly`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import LOG_EVIDENCE, PATIENCE, Shift, follow, new_shift, shifted
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Whether the weights were ever zero (0 or 1), and the shift against the warm-up."""

    from_zero: int
    shift: Shift


@dataclass(frozen=True, kw_only=True)
class WeightGrowth:
    """Weights grow, so steps turn them less."""

    name: ClassVar[str] = "weight-growth"
    reads: ClassVar[tuple[str, ...]] = ("weight_rms", "rotation_ratio")
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("WeightDecay", "LearningRate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    factor: float = 10.0
    """Growth over the warm-up."""
    patience: int = PATIENCE

    def init(self) -> State:
        return State(0, new_shift())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        size = row.values.get("weight_rms", math.nan)
        if size == 0:
            return state._replace(from_zero=1), None
        if state.from_zero or not (math.isfinite(size) and size > 0):
            return state, None
        state = state._replace(shift=follow(state.shift, row.step, math.log(size), span=math.log(self.factor)))
        if not shifted(state.shift, self.patience):
            return state, None
        onset, reference = state.shift.evidence.onset, math.exp(state.shift.reference.centre)
        turning = row.values.get("rotation_ratio", math.nan)
        beside = "" if math.isnan(turning) else f" ({turning:.2g} of the speed at which decay would balance it)"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"weights of RMS {size:.2g} are {size / reference:.3g} times those of the warm-up{at(row.site)} "
            f"since step {onset}; a step of the same size turns them that much less{beside}.",
            evidence={k: row.values[k] for k in self.reads if k in row.values}
            | {"weight_rms_reference": reference, LOG_EVIDENCE: state.shift.evidence.log_sum},
            remedies=self.remedies,
        )
