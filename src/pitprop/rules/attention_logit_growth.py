"""Attention logits grow towards the size at which attention condenses.

## What it detects
The largest attention logit has grown steadily away from its warm-up and is half of the way, on a log scale, to where a
softmax condenses; the note extrapolates when it will be there.

## Why it matters
It is a cofactor and a forecast: `attention-concentration` says that it has happened. Logits that grow exponentially are
a known road to loss spikes at large step sizes, and the growth is seen long before the loss moves.

## Reads
`attention_logit_peak` (largest logit above its row's mean over 2 ln n; at 1 Gaussian logits condense) at attention
sites. Measured by itself, or `watch.tap_attention(name, q, k)`.

## Threshold
* The e-detector on ln(peak) past a run length of 10 000 rows, and for 20 rows over half of the log distance from the
  warm-up median to 1, and at least doubled. Half of the way is a convention: later is more certain, earlier more
  useful.
* The forecast continues the growth from the onset to now geometrically, as Wortsman et al. extrapolate it.

## When it is wrong
Growth may stop by itself, and usually does when the step size falls. One key that runs away is a sink more often than
an instability. With weights that start at 0 the warm-up's peak is small, and learning to attend looks like growth: the
note then says a low number. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
QK normalisation bounds the logits; a smaller step size or weight decay on q and k slows them.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="attn", values={"attention_logit_peak": 0.1 * 1.01**t}) for t in range(300)]
>>> [(f.severity, f.detected) for f in detect(rows, rules=(AttentionLogitGrowth(),))]
[('note', 140)]

## References
Wortsman et al., "Small-scale proxies for large-scale transformer training instabilities", arXiv 2309.14322. Giorlandino
and Goldt, arXiv 2505.24333 (condensation). Catalogue, mode 5.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import LOG_EVIDENCE, PATIENCE, Shift, follow, new_shift, shifted
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class AttentionLogitGrowth:
    """Attention logits grow; a cofactor."""

    name: ClassVar[str] = "attention-logit-growth"
    reads: ClassVar[tuple[str, ...]] = ("attention_logit_peak",)
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("qk-norm", "LearningRate", "WeightDecay")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    way: float = 0.5
    """Part of the log distance from the warm-up to condensation at which it is said."""
    factor: float = 2.0
    """Growth that it takes at least."""
    patience: int = PATIENCE

    def init(self) -> Shift:
        return new_shift()

    def update(self, state: Shift, row: Row) -> tuple[Shift, Finding | None]:
        peak = row.values.get("attention_logit_peak", math.nan)
        if not (math.isfinite(peak) and peak > 0):  # no logits to grow
            return state, None
        distance = -state.reference.centre
        span = max(self.way * distance, math.log(self.factor)) if distance > 0 else math.nan
        state = follow(state, row.step, math.log(peak), span)
        if not shifted(state, self.patience):
            return state, None
        onset, reference = state.evidence.onset, math.exp(state.reference.centre)
        rate = math.log(peak / reference) / max(row.step - onset, 1)
        condensed = row.step + max(0.0, -math.log(peak) / rate)
        when = f"it condenses at about step {condensed:.0f}" if peak < 1 else "it is where attention condenses"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"the largest attention logit is {peak / reference:.2g} times the warm-up's{at(row.site)} and "
            f"grows since step {onset}; at this rate {when}.",
            evidence={"attention_logit_peak": peak, "peak_reference": reference, "condensed_at_step": condensed}
            | {LOG_EVIDENCE: state.evidence.log_sum},
            remedies=self.remedies,
        )
