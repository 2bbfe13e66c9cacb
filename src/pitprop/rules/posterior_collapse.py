"""The latents of a variational model say nothing about the input.

## What it detects
The KL of the posterior to the prior is under one bit for a whole sample, or no latent moves with the input (failure);
or the share of latents that do has fallen to under half of the warm-up's (note).

## Why it matters
The decoder works without its latents: it has become an unconditional model, and samples, interpolations and anything
built on the latents are noise. The reconstruction loss may not show it where the decoder is strong.

## Reads
`latent_kl` (nats per sample, all latents together) and `latent_active_share` (latents whose mean has a variance over
0.01), at the run or the site that was given: `watch.log(latent_mean=mu, latent_log_variance=log_var)`.

## Threshold
* KL under ln 2 nats for 20 rows and not before row 120. A constant of the problem: the KL bounds the mutual information
  of input and latents, so one bit is not there, and the latents can't tell one half of the data from the other.
* Or no active latent, for as long. 0.01 is Burda's convention.
* Half of the warm-up's active share for 20 rows, with the e-detector past a run length of 10 000 rows: a note, because
  more latents than the data have directions are switched off by right.
* The first 100 rows don't count: a zero-initialised head has a KL of 0 and wakes up. A convention.

## When it is wrong
Data with less than a bit to say. A KL weight that begins high and is lowered later collapses and recovers. With free
bits the KL is held up by force: only the active share then speaks. Measured: no alarm on 200 healthy AR(1) series of
3000 rows. In tiny trainings (3 seeds each) a KL weight over the data's largest eigenvalue was found, and two directions
in four latents were no more than a note.

## Remedies
KL warm-up or free bits, by a knob of the recipe; a weaker decoder. Drawing the encoder's weights again after the
change: a collapsed posterior gives it no gradient.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"latent_kl": 12.0 if t < 150 else 0.01}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(PosteriorCollapse(),))]
[('failure', 150, 169)]

## References
Burda, Grosse and Salakhutdinov, arXiv 1509.00519 (active units). Lucas et al., "Don't blame the ELBO!", arXiv
1911.02469. Razavi et al., "Preventing posterior collapse with delta-VAEs", arXiv 1901.03416. Catalogue, mode 18.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import (
    LOG_EVIDENCE,
    PATIENCE,
    Persistence,
    Shift,
    follow,
    lasting,
    new_shift,
    persist,
    shifted,
)
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Persistence of a KL under one bit and of no active latent, and the shift of the active share."""

    bit: Persistence
    none: Persistence
    shift: Shift


@dataclass(frozen=True, kw_only=True)
class PosteriorCollapse:
    """The posterior is the prior."""

    name: ClassVar[str] = "posterior-collapse"
    reads: ClassVar[tuple[str, ...]] = ("latent_kl", "latent_active_share")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "Reinitialise", "Stage")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    bit: float = math.log(2)
    """Nats under which the latents carry less than one bit."""
    fall: float = 0.5
    """Share of the warm-up's active latents under which many were switched off."""
    patience: int = PATIENCE
    transient: int = 100

    def init(self) -> State:
        return State(Persistence(), Persistence(), new_shift())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        nats = row.values.get("latent_kl", math.nan)
        active = row.values.get("latent_active_share", math.nan)
        if not math.isnan(nats):
            state = state._replace(bit=persist(state.bit, row.step, nats < self.bit))
        if not math.isnan(active):
            span = (1 - self.fall) * -state.shift.reference.centre
            shift = follow(state.shift, row.step, -active, span)
            state = state._replace(none=persist(state.none, row.step, active == 0), shift=shift)
        severity: Severity = self.severity
        meaning = "the decoder works without its latents"
        evidence = {k: row.values[k] for k in self.reads if k in row.values}
        if lasting(state.bit, self.patience, self.transient):
            onset, seen = state.bit.onset, f"the latents carry {nats:.2g} nats, less than one bit"
        elif lasting(state.none, self.patience, self.transient):
            onset, seen = state.none.onset, "no latent moves with the input"
        elif shifted(state.shift, self.patience):
            severity, onset = "note", state.shift.evidence.onset
            evidence[LOG_EVIDENCE] = state.shift.evidence.log_sum
            seen = f"{active:.0%} of the latents are active ({-state.shift.reference.centre:.0%} during the warm-up)"
            meaning = "unneeded ones are switched off by right, needed ones are missed in the reconstruction"
        else:
            return state, None
        return state, Finding(
            rule=self.name,
            severity=severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=f"{seen}{at(row.site)} since step {onset}; {meaning}.",
            evidence=evidence,
            remedies=self.remedies,
        )
