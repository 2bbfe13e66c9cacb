"""A router sends most tokens to few experts.

## What it detects
The entropy of the experts' load is under half of its maximum, and the imbalance is ten times what chance gives.

## Why it matters
Experts without tokens get no gradient, so the router never learns what they could do: the imbalance feeds itself. The
model is as good as a smaller one at the price of a larger.

## Reads
`load_entropy` (1 is balanced) and `load_chi_squared` (about 1 for a balanced router that draws at random), at the run
or the router's name: `watch.log(routing=weights)` with `[token, expert]` weights after top-k, or
`routing={"blocks.3.moe": ...}`. Queries that have become one query are a stream: `watch.tap("decoder.queries",
queries)` lets `token-uniformity` see them. Heads that do the same are `attention-head-redundancy`.

## Threshold
For 20 rows and not before row 40: entropy under 0.5 (of E experts, sqrt(E) would do the same; a convention) and reduced
chi-squared over 10. Its expectation at balance is 1, whatever the number of tokens and experts; the second condition
keeps batches with fewer tokens than experts from counting.

## When it is wrong
Tokens of one kind in the batch go to one expert by right. A router with a shared expert that is always on looks
unbalanced: leave that one out. A router that is uniform because it is zero-initialised is balanced. In tiny trainings
(3 seeds each) a router that begins with one expert was found, and a balanced one left alone.

## Remedies
A balance loss or a router z-loss by a knob, noise on the router's logits, a smaller step size for the router; drawing
the dead experts' rows again.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> values = {"load_entropy": 0.2, "load_chi_squared": 400.0}
>>> rows = [Row(step=t, site="moe", values=values) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(RouterCollapse(),))]
[('warning', 0, 39)]

## References
Shazeer et al., arXiv 1701.06538. Zoph et al., "ST-MoE", arXiv 2202.08906. Catalogue, mode 40.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class RouterCollapse:
    """Few experts do all the work."""

    name: ClassVar[str] = "router-collapse"
    reads: ClassVar[tuple[str, ...]] = ("load_entropy", "load_chi_squared")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "LearningRate", "Reinitialise")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    balance: float = 0.5
    """Normalised entropy of the load under which few experts do the work."""
    chance: float = 10.0
    """Reduced chi-squared over which that is no chance."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        entropy = row.values.get("load_entropy", math.nan)
        excess = row.values.get("load_chi_squared", math.nan)
        if math.isnan(entropy) or math.isnan(excess):
            return state, None
        state = persist(state, row.step, entropy < self.balance and excess > self.chance)
        if not lasting(state, self.patience, self.transient):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the experts' load has {entropy:.0%} of the entropy of a balanced one, {excess:.0f} times beyond "
            f"chance{at(row.site)} {since(state)}; experts without tokens do not learn.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
