"""A low-rank adapter has become larger than the layer that it adapts.

## What it detects
The largest gain of the adapter is over the largest gain of its layer, for 20 rows.

## Why it matters
An adapter is a correction. Past the size of what it corrects, the layer's own directions are drowned, and what the
base model knew is gone from the output. A hypernetwork that writes adapters without a bound does this in a few epochs.

## Reads
`adapter_ratio` (|B A|_2 over |W|_2, scaling multiplied in), at the module that holds the adapter; at the run, if the
loop logs it for adapters of its own making.

## Threshold
Over 1, where both count alike: structural. For 20 rows, and not before row 40.

## When it is wrong
A base that is small or random by itself is overtaken by right. The base's norm comes from the power method, which is a
few per cent low. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
A smaller `LearningRate` of the adapter, `WeightDecay` on it, or a clamp on its norm; a trial says which.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="q_proj", values={"adapter_ratio": 0.02 * t}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AdapterRunaway(),))]
[('warning', 51, 70)]

## References
Catalogue of failure modes, mode 12 (second collapse of the system behind the case `grid_solver`). Hu et al., "LoRA",
arXiv 2106.09685.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since_start
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class AdapterRunaway:
    """An adapter outweighs its layer."""

    name: ClassVar[str] = "adapter-runaway"
    reads: ClassVar[tuple[str, ...]] = ("adapter_ratio",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("LearningRate", "WeightDecay", "Scale")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    ratio: float = 1.0
    """Gain of the adapter over that of its layer, over which it dominates."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        ratio = row.values.get("adapter_ratio", math.nan)
        if math.isnan(ratio):
            return state, None
        state = persist(state, row.step, ratio > self.ratio)
        if not lasting(state, self.patience, self.transient):
            return state, None
        since = "since the first row" if since_start(state) else f"since step {state.onset}"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the adapter's gain is {ratio:.3g} times its layer's{at(row.site)} {since}; it no longer corrects "
            "the layer but replaces it.",
            evidence={"adapter_ratio": ratio},
            remedies=self.remedies,
        )
