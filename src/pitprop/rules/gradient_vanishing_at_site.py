"""One place of the network has lost its gradient while the rest still has one.

## What it detects
A module's part of the whole gradient has fallen to under a thousandth of what it was during the warm-up. One that is
exactly zero is `dead-gradient`'s.

## Why it matters
What gets no gradient doesn't learn, and an adaptive optimizer hides it: Adam makes full-size steps from a gradient of
1e-7. Behind a saturated bottleneck or a closed gate encoders stay as they were drawn.

## Reads
`gradient_share` (|g|^2 of the site over that of all sites) and `gradient_norm`, at modules that own parameters.

## Threshold
The square root of the share (the ratio of norms) under a thousandth of its warm-up median for 20 rows, and the
e-detector on its logarithm past a run length of 10 000 rows. Three orders of magnitude are a convention: shifts of
one order between layers are everyday. Rows of exactly zero aren't counted, so zero-initialised paths may wake up first.

## When it is wrong
A share also falls because another site explodes, or because the data has come to use a module less. Hence a warning,
not a failure. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

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
Catalogue of failure modes, modes 7 and 24. Pezeshki et al., "Gradient
starvation", arXiv 2011.09468.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import LOG_EVIDENCE, PATIENCE, Shift, follow, new_shift, shifted
from pitprop.rules._rule import Shelf, at

SMALLEST = 1e-45
"""Smallest positive float32: what a share that underflowed is taken for."""


@dataclass(frozen=True, kw_only=True)
class GradientVanishingAtSite:
    """A module gets no gradient, or next to none of it."""

    name: ClassVar[str] = "gradient-vanishing-at-site"
    reads: ClassVar[tuple[str, ...]] = ("gradient_share", "gradient_norm")
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("unit-rms", "norm-match", "zero-init-projection", "Reinitialise")
    shelf: ClassVar[Shelf] = "stable"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    fall: float = 1e-3
    """Ratio of norms, relative to the warm-up, under which the gradient has vanished."""
    patience: int = PATIENCE

    def init(self) -> Shift:
        return new_shift()

    def update(self, state: Shift, row: Row) -> tuple[Shift, Finding | None]:
        share = row.values.get("gradient_share", math.nan)
        norm = row.values.get("gradient_norm", share)
        # NaN: no gradient anywhere, and nothing can be said about one site. The norm can't underflow, its share can.
        if not (share >= 0 and norm > 0):
            return state, None
        value = -0.5 * math.log(max(share, SMALLEST))
        state = follow(state, row.step, value, span=-math.log(self.fall))
        if not shifted(state, self.patience):
            return state, None
        onset, reference = state.evidence.onset, math.exp(-state.reference.centre)
        relative = math.sqrt(share) / reference
        known = {k: row.values[k] for k in self.reads if k in row.values}
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"the part in the whole gradient is {relative:.1e} of the warm-up's{at(row.site)} since step "
            f"{onset}; what is here no longer learns.",
            evidence=known
            | {"relative_to_warm_up": relative, "gradient_share_reference": reference**2}
            | {LOG_EVIDENCE: state.evidence.log_sum},
            remedies=self.remedies,
        )
