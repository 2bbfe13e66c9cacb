"""The residual stream grows from block to block faster than independent branches can make it.

## What it detects
The stream after the last block is more than ten times as long, beside the stream after the first, as the law of adding
variances allows: since the first row (warning), or ten times what it was during the warm-up (note).

## Why it matters
Independent branches of equal size make a stream of sqrt(n) times the first after n blocks. One that grows
geometrically multiplies, so late blocks' branches are nothing beside it, halves overflow, and gradients of early
blocks explode or vanish with depth.

## Reads
`stream_growth` (norm after the last block over norm after the first, over the square root of their number) at the
container of the blocks.

## Threshold
* Over 10 in every row from the first, for 40 rows: a warning. 1 is the law; an order of magnitude above it is a
  convention. The reference is the first block's output, because an embedding may be as small as it was drawn.
* Ten times its warm-up median for 20 rows, with the e-detector on its logarithm past a run length of 10 000 rows: a
  note, because trained streams do grow towards the end.

## When it is wrong
Blocks that reduce their resolution or change their width are no one stream. Late layers of large language models are
healthy at several times the law. A few tokens with massive activations don't count: the norm is the median token's.
Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
`layer-scale` or a factor of 1/sqrt(2 n) on each branch; normalisation in front of each branch.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="blocks", values={"stream_growth": 400.0}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(ResidualGrowth(),))]
[('warning', 0, 39)]

## References
Catalogue of failure modes, mode 25. De and Smith, arXiv 2002.10444 (variances add). Radford et al., GPT-2, 2019 (the
factor on branches).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import (
    LOG_EVIDENCE,
    PATIENCE,
    TRANSIENT,
    Persistence,
    Shift,
    follow,
    lasting,
    new_shift,
    persist,
    shifted,
    since_start,
)
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Persistence over the law, and the shift against the warm-up."""

    level: Persistence
    shift: Shift


@dataclass(frozen=True, kw_only=True)
class ResidualGrowth:
    """A stream multiplies where it should add."""

    name: ClassVar[str] = "residual-growth"
    reads: ClassVar[tuple[str, ...]] = ("stream_growth",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("layer-scale", "norm-match", "Scale")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    factor: float = 10.0
    """Growth over the law, or over the warm-up, that is too much."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return State(Persistence(), new_shift())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        growth = row.values.get("stream_growth", math.nan)
        if not (math.isfinite(growth) and growth > 0):
            return state, None
        state = State(
            persist(state.level, row.step, growth > self.factor),
            follow(state.shift, row.step, math.log(growth), span=math.log(self.factor)),
        )
        evidence = {"stream_growth": growth}
        if since_start(state.level) and lasting(state.level, self.patience, self.transient):
            severity, onset, since = self.severity, state.level.onset, "since the first row"
        elif shifted(state.shift, self.patience):
            reference = math.exp(state.shift.reference.centre)
            severity, onset = "note", state.shift.evidence.onset
            since = f"since step {onset} (warm-up: {reference:.2g})"
            evidence |= {"stream_growth_reference": reference, LOG_EVIDENCE: state.shift.evidence.log_sum}
        else:
            return state, None
        return state, Finding(
            rule=self.name,
            severity=severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"the stream grows {growth:.3g} times as much as independent branches would make it{at(row.site)} "
            f"{since}; late branches are little beside it.",
            evidence=evidence,
            remedies=self.remedies,
        )
