"""The output softmax is sure beyond what its numbers can say.

## What it detects
For more than half of the samples the largest probability is exactly 1 in the type that computes it: since the first row
(warning) or since some step (note). Or log Z has drifted so far that rounding changes every probability by half.

## Why it matters
A right answer with probability exactly 1 has a loss of exactly 0 and no gradient: it teaches nothing more, and what
little gradient is left scales the logits up further. A wrong one can't be told from any other wrong one. Rounding adds
noise to the loss that no step can take away.

## Reads
`certain_share` and `logit_rounding`, at the run or at the site that was given:
`watch.log(logits=logits, labels=labels)`, in the type in which the loop has the logits.

## Threshold
* Share over 0.5 for 20 rows and not before row 40. "Exactly 1" is exact (2^-24 in float32, a lead of 17 nats); the
  majority is a convention.
* Rounding over half a nat for 20 rows and not before row 40: probabilities are then wrong by a factor of up to 1.6, a
  convention; the rounding error of a type is exact. float32 never gets there, bfloat16 does at |log Z| = 128.

## When it is wrong
A classifier that has learned its training set is certain and right: hence a note, unless it was so from the start,
when it can't know anything. Logits that are given in bfloat16 but were rounded from float32 losses look worse than the
loss is.

## Remedies
A smaller step size; a penalty on log Z or a cap on logits. Whether it costs anything is settled by a trial of
`LearningRate` or `Precision` on held-out loss.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"certain_share": 0.0 if t < 80 else 0.97}) for t in range(120)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(SoftmaxSaturation(),))]
[('note', 80, 99)]

## References
Prieto et al., "Grokking at the edge of numerical stability", arXiv 2501.04697. Chowdhery et al., "PaLM", arXiv
2204.02311 (z-loss). Catalogue, mode 6.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since_start
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Persistence of certainty, and of rounding."""

    certain: Persistence
    rounding: Persistence


@dataclass(frozen=True, kw_only=True)
class SoftmaxSaturation:
    """Probabilities are exactly 1, or rounded away."""

    name: ClassVar[str] = "softmax-saturation"
    reads: ClassVar[tuple[str, ...]] = ("certain_share", "logit_rounding")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("LearningRate", "Precision")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    majority: float = 0.5
    """Share of certain samples over which the softmax is saturated."""
    error: float = 0.5
    """Rounding error of a log-probability, in nats, over which the loss is noise."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return State(Persistence(), Persistence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        share = row.values.get("certain_share", math.nan)
        rounding = row.values.get("logit_rounding", math.nan)
        if not math.isnan(share):
            state = state._replace(certain=persist(state.certain, row.step, share > self.majority))
        if not math.isnan(rounding):
            state = state._replace(rounding=persist(state.rounding, row.step, rounding > self.error))
        severity: Severity = self.severity
        if lasting(state.rounding, self.patience, self.transient):
            held, seen = state.rounding, f"rounding moves each log-probability by {rounding:.2g} nats"
            meaning = "log Z has drifted to where the type of the logits is too coarse"
        elif lasting(state.certain, self.patience, self.transient):
            held, seen = state.certain, f"{share:.0%} of the samples have a probability of exactly 1"
            meaning = "those that are right give no gradient any more"
            severity = self.severity if since_start(held) else "note"
        else:
            return state, None
        since = "since the first row" if since_start(held) else f"since step {held.onset}"
        return state, Finding(
            rule=self.name,
            severity=severity,
            site=row.site,
            onset=held.onset,
            detected=row.step,
            message=f"{seen}{at(row.site)} {since}; {meaning}.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
