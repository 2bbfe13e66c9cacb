"""One place of the network has lost its gradient while the rest still has one.

## What it detects
The gradient of a module is exactly zero, row after row, while that of others is not; or its part of the whole gradient
has fallen to under a thousandth of what it was during the warm-up.

## Why it matters
What gets no gradient doesn't learn, and an adaptive optimizer hides it: Adam makes full-size steps from a gradient of
1e-7. Behind a saturated bottleneck, a closed gate or a dead chain of zero factors, encoders stay as they were drawn.

## Reads
`gradient_share` (|g|^2 of the site over that of all sites) and `gradient_norm`, at modules that own parameters.

## Threshold
* Exactly zero for 20 rows and not before row 40, with a share that is defined, so something else has gradient.
* The square root of the share (the ratio of norms) under a thousandth of its warm-up median for 20 rows, and the
  e-detector on its logarithm past a run length of 10 000 rows. Three orders of magnitude are a convention: shifts of
  one order between layers are everyday. Zeros don't enter the warm-up, so zero-initialised paths may wake up first.

## When it is wrong
Exact zeros that are right: an embedding that the data doesn't use, a module behind a flag, an expert without tokens.
The bias of the keys has exactly zero gradient by the shift invariance of the softmax, and parts of a module can't be
seen apart here. A share also falls because another site explodes. Hence a warning, not a failure. Measured: no alarm on
200 healthy AR(1) series of 3000 rows.

## Remedies
Norm matching or a zero-initialised output projection where a large branch drowns the path; unit-size pre-activations
where units are saturated; drawing the weights again.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="encoder", values={"gradient_share": 0.3 if t < 100 else 1e-9}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(GradientVanishingAtSite(),))]
[('warning', 100, 119)]

## References
Catalogue of failure modes, modes 7, 10 and 24, and its list of structural zeros. Pezeshki et al., "Gradient
starvation", arXiv 2011.09468.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import (
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

SMALLEST = 1e-45
"""Smallest positive float32: what an exactly zero share is taken for on the log scale."""


class State(NamedTuple):
    """Persistence of exact zero, and the shift against the warm-up."""

    zero: Persistence
    shift: Shift


@dataclass(frozen=True, kw_only=True)
class GradientVanishingAtSite:
    """A module gets no gradient, or next to none of it."""

    name: ClassVar[str] = "gradient-vanishing-at-site"
    reads: ClassVar[tuple[str, ...]] = ("gradient_share", "gradient_norm")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("unit-rms", "norm-match", "zero-init-projection", "Reinitialise")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    fall: float = 1e-3
    """Ratio of norms, relative to the warm-up, under which the gradient has vanished."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> State:
        return State(Persistence(), new_shift())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        share = row.values.get("gradient_share", math.nan)
        if not share >= 0:  # NaN: no gradient anywhere, and nothing can be said about one site
            return state, None
        # The norm can't underflow, the squared share can.
        zero = row.values.get("gradient_norm", share) == 0
        state = state._replace(zero=persist(state.zero, row.step, zero))
        if share > 0 or not math.isnan(state.shift.reference.centre):
            value = -0.5 * math.log(max(share, SMALLEST))
            state = state._replace(shift=follow(state.shift, row.step, value, span=-math.log(self.fall)))
        evidence = {k: row.values[k] for k in self.reads if k in row.values}
        if lasting(state.zero, self.patience, self.transient):
            onset, seen = state.zero.onset, "the gradient is exactly zero"
            since = "since the first row" if since_start(state.zero) else f"since step {onset}"
        elif shifted(state.shift, self.patience):
            onset = state.shift.evidence.onset
            reference = math.exp(-state.shift.reference.centre)
            relative = math.sqrt(share) / reference
            seen, since = f"the part in the whole gradient is {relative:.1e} of the warm-up's", f"since step {onset}"
            evidence |= {"relative_to_warm_up": relative, "gradient_share_reference": reference**2}
        else:
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"{seen}{at(row.site)} {since}, while other sites have gradient; what is here no longer learns.",
            evidence=evidence,
            remedies=self.remedies,
        )
