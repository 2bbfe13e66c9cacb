"""Attention rests on the first key, or a few activations dwarf all others.

## What it detects
The head that does it most puts more than half of what it could on the first key it sees; or the largest activation of a
stream is more than a thousand times the median. The two usually come together.

## Why it matters
It is a cofactor, and usually benign: a sink is where a head puts its mass when it has nothing to say, and trained
language models have them. It matters for quantisation (a thousandfold outlier takes the whole range), for windows that
drop the first token, and for reading entropy: a head with a sink is concentrated without selecting anything.

## Reads
`attention_sink` ((p_1 - 1/n) / (1 - 1/n) of the largest head, 0 for a fair share) at attention sites and
`activation_peak` (largest over median magnitude) at blocks. Both are measured by itself; attention that can't be seen
is given with `watch.tap_attention(name, q, k)`, a stream with `watch.tap(name, tensor)`. The sink is measured where a
causal mask shows the first key to more queries than others; without one the keys are a set, and no key is the first.

## Threshold
* Sink share over 0.5 for 20 rows and not before row 40. The scale is set by the number of visible keys; a half, the
  majority of the mass, is a convention.
* Peak over 1000 for 20 rows and not before row 40: the convention of Sun et al. A Gaussian stream of a million entries
  has 8.

## When it is wrong
As a note it can only be beside the point, and mostly is. A first token that carries the answer (a prompt) is attended
to by right. Without a causal mask only the peak is looked at: a sink at a class token or a register isn't seen.

## Remedies
Where it hurts: output gating or register tokens. Whether the head does anything is settled by `Ablate`.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="attn", values={"attention_sink": 0.05 if t < 80 else 0.8}) for t in range(120)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AttentionSink(),))]
[('note', 80, 99)]

## References
Xiao et al., arXiv 2309.17453 (sinks). Sun et al., "Massive activations in large language models", arXiv 2402.17762. Qiu
et al., "Gated attention", arXiv 2505.06708. Catalogue, mode 4.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since_start
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Persistence of the sink, and of the peak."""

    sink: Persistence
    peak: Persistence


@dataclass(frozen=True, kw_only=True)
class AttentionSink:
    """The first key takes the mass, or a few activations dwarf the rest; a cofactor."""

    name: ClassVar[str] = "attention-sink"
    reads: ClassVar[tuple[str, ...]] = ("attention_sink", "activation_peak")
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("gated-attention", "Ablate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    majority: float = 0.5
    """Part of what the first key could take beyond its fair share, over which it is a sink."""
    massive: float = 1000.0
    """Largest over median magnitude, over which an activation is massive."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return State(Persistence(), Persistence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        share = row.values.get("attention_sink", math.nan)
        peak = row.values.get("activation_peak", math.nan)
        if not math.isnan(share):
            state = state._replace(sink=persist(state.sink, row.step, share > self.majority))
        if not math.isnan(peak):
            state = state._replace(peak=persist(state.peak, row.step, peak > self.massive))
        if lasting(state.sink, self.patience, self.transient):
            held, seen = state.sink, f"the first key takes {share:.0%} of the mass beyond its share in the largest head"
        elif lasting(state.peak, self.patience, self.transient):
            held, seen = state.peak, f"the largest activation is {peak:.0f} times the median"
        else:
            return state, None
        since = "since the first row" if since_start(held) else f"since step {held.onset}"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=held.onset,
            detected=row.step,
            message=f"{seen}{at(row.site)} {since}; harmless for most losses, costly for quantisation and windows.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
