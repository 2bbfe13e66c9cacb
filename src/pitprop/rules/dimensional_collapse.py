"""Embeddings use few of their dimensions.

## What it detects
The effective rank of the centred embeddings has fallen to under a tenth of its warm-up's, or (a note) has been under a
tenth of what noise of the same shape would have since the first row.

## Why it matters
Inputs are still told apart, so losses and `embedding-collapse` see nothing, but along a few directions only: a linear
probe finds less in them, and more width buys nothing.

## Reads
`embedding_rank` (RankMe of the centred embeddings over what the Marchenko-Pastur law gives for noise of that batch and
width), at the run or the site that was given: `watch.log(embeddings=z)`; `embedding_spread` as evidence.

## Threshold
* A tenth of the warm-up median for 20 rows, with the e-detector on the logarithm past a run length of 10 000 rows. An
  order of magnitude is a convention; the rest is calibrated.
* Under a tenth of noise in every row from the first for 120 rows: a note, because many inputs are correlated and deep
  random networks add a common direction.

## When it is wrong
Supervised classifiers end with one direction per class, by right (neural collapse): log what a self-supervised loss
sees. Data with few directions have embeddings with few. A batch smaller than the width bounds the rank, and is allowed
for. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
Decorrelating objectives (VICReg, Barlow Twins) or a deeper projector by a knob; weaker augmentation. Whether it costs
anything is settled by a linear classifier on the embeddings.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"embedding_rank": 0.5 if t < 80 else 0.02}) for t in range(120)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(DimensionalCollapse(),))]
[('warning', 80, 99)]

## References
Jing et al., "Understanding dimensional collapse in contrastive self-supervised learning", arXiv 2110.09348. Garrido et
al., "RankMe", arXiv 2210.02885. Papyan, Han and Donoho, arXiv 2008.08186 (neural collapse). Catalogue, mode 20.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import (
    LOG_EVIDENCE,
    PATIENCE,
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
    """Persistence under a tenth of noise, and the shift against the warm-up."""

    low: Persistence
    shift: Shift


@dataclass(frozen=True, kw_only=True)
class DimensionalCollapse:
    """Few dimensions of the embeddings are used."""

    name: ClassVar[str] = "dimensional-collapse"
    reads: ClassVar[tuple[str, ...]] = ("embedding_rank", "embedding_spread")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "LearningRate", "Reinitialise")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    fall: float = 0.1
    """Share of the reference under which the rank has collapsed."""
    patience: int = PATIENCE
    transient: int = 100

    def init(self) -> State:
        return State(Persistence(), new_shift())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        rank = row.values.get("embedding_rank", math.nan)
        if not (math.isfinite(rank) and rank > 0):
            return state, None
        state = State(
            persist(state.low, row.step, rank < self.fall),
            follow(state.shift, row.step, -math.log(rank), span=-math.log(self.fall)),
        )
        severity: Severity = self.severity
        evidence = {k: row.values[k] for k in self.reads if k in row.values}
        if shifted(state.shift, self.patience):
            reference, onset = math.exp(-state.shift.reference.centre), state.shift.evidence.onset
            seen = f"{rank / reference:.1%} of the warm-up's, since step {onset}"
            evidence[LOG_EVIDENCE] = state.shift.evidence.log_sum
        elif since_start(state.low) and lasting(state.low, self.patience, self.transient):
            severity, onset = "note", state.low.onset
            seen = "so since the first row"
        else:
            return state, None
        return state, Finding(
            rule=self.name,
            severity=severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"embeddings use {rank:.1%} of the dimensions that noise would ({seen}){at(row.site)}; "
            "width that is not used carries nothing.",
            evidence=evidence,
            remedies=self.remedies,
        )
