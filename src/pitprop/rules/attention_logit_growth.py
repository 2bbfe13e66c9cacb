"""Attention logits have grown beyond where a softmax passes a gradient.

## What it detects
The largest attention logit has at least doubled since the first row, and stands so far above its row that the weight of
its key rounds to exactly 1.

## Why it matters
Where a weight is 1 the gradient through the softmax is 0: the row can't be unlearned. Logits that grow without bound
are a known road to loss spikes at large step sizes, and at half precision they lose the differences between keys
first. It is a cofactor: a row that is sure may be right.

## Reads
`attention_logit_peak` (largest logit above its row's mean over 2 ln n; at 1 Gaussian logits condense) at attention
sites. Measured by itself, or `watch.tap_attention(name, q, k)`.

## Threshold
Over 4 for 20 rows, not before row 40, and twice that of the first row. At a peak of r, with the other n - 1 keys at the
row's mean, all of them together have a weight of n^(1 - 2r). At r = 4 that is under float32's resolution of 2^-24 for
every n over 10. QK-clip acts at a logit of 100, which is a peak of 6 at 4096 keys. Growth below 4 is
learning to attend: in three small healthy transformers and one with a long warm-up (one development seed each) peaks
rose from 0.05 to 0.3 in the first rows to 0.2 to 1.7, and stayed there.

## When it is wrong
One key that runs away on purpose is a sink (`attention-sink`). Attention that is hard by design (a temperature that
falls) ends here. The first row of a resumed run is not that of the untrained network. Logits that are this large from
the first row on are the initialisation's: `pitprop check` asks about them. Measured: no alarm on 200 healthy AR(1)
series of 3000 rows.

## Remedies
QK normalisation bounds the logits; a smaller step size or weight decay on q and k slows them.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="attn", values={"attention_logit_peak": 0.1 * 1.02**t}) for t in range(300)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AttentionLogitGrowth(),))]
[('note', 187, 206)]

## References
Wortsman et al., "Small-scale proxies for large-scale transformer training instabilities", arXiv 2309.14322. Giorlandino
and Goldt, arXiv 2505.24333 (condensation). Kimi Team, "Kimi K2", arXiv 2507.20534 (QK-clip). Catalogue, mode 5.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN, PATIENCE, TRANSIENT, Persistence, lasting, persist
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Peak of the first row, and persistence beyond the level."""

    first: float
    over: Persistence


@dataclass(frozen=True, kw_only=True)
class AttentionLogitGrowth:
    """Attention logits have grown too far; a cofactor."""

    name: ClassVar[str] = "attention-logit-growth"
    reads: ClassVar[tuple[str, ...]] = ("attention_logit_peak",)
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("qk-norm", "LearningRate", "WeightDecay")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    level: float = 4.0
    """Peak at which the largest weight rounds to 1."""
    factor: float = 2.0
    """Growth since the first row that it takes at least."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return State(NAN, Persistence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        peak = row.values.get("attention_logit_peak", math.nan)
        if not math.isfinite(peak):
            return state, None
        first = peak if math.isnan(state.first) else state.first
        over = peak > max(self.level, self.factor * first)
        state = State(first, persist(state.over, row.step, over))
        if not lasting(state.over, self.patience, self.transient):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.over.onset,
            detected=row.step,
            message=f"the largest attention logit is {peak:.2g} times where attention condenses ({first:.2g} in the "
            f"first row){at(row.site)} since step {state.over.onset}; its key has all the weight, and no gradient "
            "passes.",
            evidence={"attention_logit_peak": peak, "peak_first": first},
            remedies=self.remedies,
        )
