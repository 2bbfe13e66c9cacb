"""All tokens of a stream have become the same vector.

## What it detects
The tokens that a block hands on point in one direction: two of them differ by less than 1 % of their length (failure),
or by less than a tenth of what they did during the warm-up (warning). The first is found from initialisation on.

## Why it matters
Attention over equal tokens can select nothing, and everything downstream sees one token. Stacks of attention without
residual connections get there doubly exponentially with depth, at initialisation, before any training.

## Reads
`token_cosine` (mean pairwise cosine of the tokens of a sample, 1 is equal) at every block; `effective_rank` as
evidence.

## Threshold
For unit vectors 1 - cosine = d^2 / 2, with d the distance between two tokens as a share of their length.
* Failure: d < 0.01, for 20 rows and not before row 40. A convention, placed where half types stop helping: bfloat16
  resolves 0.4 %.
* Warning: 1 - cosine is under a hundredth of its warm-up median (d under a tenth) for 20 rows, and the e-detector on
  log(1 - cosine) is past a run length of 10 000 rows. An order of magnitude is a convention; the rest is calibrated.

## When it is wrong
A common direction that dominates every token (massive activations; late layers of trained language models reach a
cosine of 0.99) leaves small differences that later layers can still read: the warning is then a cofactor. A stream
of equal inputs has equal tokens by right. A change within the 20 rows of warm-up is taken for normal unless it ends
under the failure level. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
Residual connections are what prevents it; scaling branches and a smaller step size help; gates don't.

## Example
A stack of attention without residual connections, at initialisation:

>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="layers.3", values={"token_cosine": 0.99999}) for t in range(60)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(TokenUniformity(),))]
[('failure', 0, 39)]

## References
Dong, Cordonnier and Loukas, "Attention is not all you need: pure attention loses rank doubly exponentially with depth",
arXiv 2103.03404. Noci et al., "Signal propagation in transformers", arXiv 2206.03126. Catalogue, mode 3.
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

RESOLUTION = 2.0**-23
"""Smallest 1 - cosine that float32 can tell from 0."""


class State(NamedTuple):
    """Persistence at the failure level, and the shift against the warm-up."""

    alike: Persistence
    shift: Shift


@dataclass(frozen=True, kw_only=True)
class TokenUniformity:
    """Tokens of a stream are the same vector."""

    name: ClassVar[str] = "token-uniformity"
    reads: ClassVar[tuple[str, ...]] = ("token_cosine", "effective_rank")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Replace", "layer-scale", "LearningRate", "Reinitialise")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    distance: float = 0.01
    """Distance between two tokens, as a share of their length, under which they are the same."""
    fall: float = 0.1
    """Fall of that distance, relative to the warm-up, that is worth a warning."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return State(Persistence(), new_shift())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        cosine = row.values.get("token_cosine", math.nan)
        if math.isnan(cosine):
            return state, None
        apart = math.sqrt(2 * max(1 - cosine, RESOLUTION))
        state = State(
            persist(state.alike, row.step, apart < self.distance),
            follow(state.shift, row.step, -math.log(apart), span=-math.log(self.fall)),
        )
        same = lasting(state.alike, self.patience, self.transient)
        if not same and not shifted(state.shift, self.patience):
            return state, None
        evidence = {k: row.values[k] for k in self.reads if k in row.values} | {"token_distance": apart}
        if not same:
            evidence[LOG_EVIDENCE] = state.shift.evidence.log_sum
        relative = ""
        onset = state.alike.onset
        if not since_start(state.alike) and not math.isnan(state.shift.reference.centre):
            reference = math.exp(-state.shift.reference.centre)
            evidence["token_distance_reference"] = reference
            relative = f" ({apart / reference:.1%} of the warm-up's {reference:.2g})"
            onset = state.shift.evidence.onset if state.shift.evidence.log_best > 0 else onset
        since = "since the first row" if since_start(state.alike) else f"since step {onset}"
        return state, Finding(
            rule=self.name,
            severity=self.severity if same else "warning",
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"two tokens differ by {apart:.1%} of their length{relative}{at(row.site)} {since}; "
            "attention above it has little to select from.",
            evidence=evidence,
            remedies=self.remedies,
        )
