"""Attention puts its mass on one key.

## What it detects
The largest head's logits spread so far along the keys that nearly all mass is on one key; where the logit scale is not
measured, the mean entropy has fallen to a tenth of its warm-up median.

## Why it matters
It is a cofactor, never a verdict: a one-hot head can be the best in the model. Logits that keep growing are a known
road to loss spikes, and a saturated softmax passes little gradient to its queries and keys.

## Reads
`attention_logit_scale` (sigma / sqrt(2 ln n) of the largest head) and `attention_entropy` (normalised, mean over heads)
at attention sites.

## Threshold
* Logit scale r over 10 for 20 rows and not before row 40. In the random energy model the softmax over n keys begins to
  condense at r = 1, and two draws then take the same key with the chance 1 - 1/r. Heads that learn to select go past
  r = 1 by right, so that point is no sign of anything; over 10 the chance is nine tenths, which leaves the softmax
  hardly a gradient. Nine tenths (an order of magnitude of what is left) is a convention.
* Without logit scale: entropy under a tenth of its warm-up median for 20 rows (the same convention), and the e-detector
  past a run length of 10 000 rows.

## When it is wrong
As a note it can be beside the point: selective heads are often healthy. The constant is for many keys and Gaussian
logits; with a handful of keys it is rough. A change within the warm-up is taken for normal by the entropy test.
Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
QK normalisation bounds the logits; a smaller step size slows their growth.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="attn", values={"attention_logit_scale": 0.4 + t / 10}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AttentionConcentration(),))]
[('note', 97, 116)]

## References
Zhai et al., "Stabilizing transformer training by preventing attention entropy collapse", arXiv 2303.06296. Wortsman et
al., "Small-scale proxies for large-scale transformer training instabilities", arXiv 2309.14322. Giorlandino and Goldt,
arXiv 2505.24333 (condensation). Derrida and Toulouse, J. Physique Lett. 46, 1985 (1 - 1/r). Catalogue,
modes 1 and 5.
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
    since,
)
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Persistence of the logit scale, and the shift of the entropy."""

    scale: Persistence
    entropy: Shift


@dataclass(frozen=True, kw_only=True)
class AttentionConcentration:
    """One key takes all attention; a cofactor."""

    name: ClassVar[str] = "attention-concentration"
    reads: ClassVar[tuple[str, ...]] = ("attention_logit_scale", "attention_entropy")
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("qk-norm", "LearningRate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    condensed: float = 10.0
    """Logit scale over which the softmax is all but one-hot."""
    fall: float = 0.1
    """Share of the warm-up's entropy under which it has fallen; used where no logit scale is measured."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return State(Persistence(), new_shift())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        scale = row.values.get("attention_logit_scale", math.nan)
        entropy = row.values.get("attention_entropy", math.nan)
        evidence = {k: row.values[k] for k in self.reads if k in row.values}
        if not math.isnan(scale):
            state = state._replace(scale=persist(state.scale, row.step, scale > self.condensed))
            if not lasting(state.scale, self.patience, self.transient):
                return state, None
            onset = state.scale.onset
            when = since(state.scale)
            seen = f"the largest head's logits spread {scale:.2g} times as far as it takes to condense"
        else:
            reference = state.entropy.reference.centre
            span = (1 - self.fall) * -reference
            state = state._replace(entropy=follow(state.entropy, row.step, -entropy, span))
            if not shifted(state.entropy, self.patience):
                return state, None
            onset = state.entropy.evidence.onset
            evidence[LOG_EVIDENCE] = state.entropy.evidence.log_sum
            when = f"since step {onset}"
            seen = f"attention entropy is at {entropy:.2g} ({entropy / -reference:.0%} of the warm-up's)"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"{seen}{at(row.site)} {when}; nearly all mass is on one key, which may be what the head is for.",
            evidence=evidence,
            remedies=self.remedies,
        )
