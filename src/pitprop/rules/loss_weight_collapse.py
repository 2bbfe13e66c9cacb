"""Learned loss weights run to the loss that is smallest anyway.

## What it detects
The weights move towards the small losses in most steps (warning, with the part that takes all and about when), or one
part has nearly everything already (failure). Weights that have never moved are reported too, as a note: nothing trains
them, and their stability proves nothing.

## Why it matters
Minimising sum_i w_i L_i over a simplex is linear in w, so its minimum is a vertex: all weight on the smallest loss. The
weighted loss falls all the while, because the hard parts are no longer counted. The direction shows after some 30 rows,
hundreds of steps before the weights look different. Where the losses change and the optimizer is made anew now and
then, the vertex is the part whose loss is smallest in most steps, not on average (docs/design/006-which-vertex.md).

## Reads
`loss_weight_alignment` (correlation of the change with minus the losses), `loss_weight_concentration` (1 - H / ln n),
`loss_weight_odds` (log odds of the part with the smallest mean loss), `loss_weight_vertex` (its number) and
`loss_weight_motion` (total variation to the first row), at the run or the site that was given:
`watch.log(weights=w, losses=l)`, two vectors in one order: `w` as it weighs, `l` before weighing.

## Threshold
* Direction: a sign test, anytime-valid. If at most three of five changes are aligned, given the past, it fires no
  sooner than once in 10 000 rows; under descent each one is (derivation T1), which takes about 30 rows. A wander is a
  coin; three of five keeps a distance to it, and is a convention.
* Vertex: concentration over 0.9 for 20 rows, after a motion that is not 0. A convention.
* Untrained: motion exactly 0 for 100 rows from the first. Exact; the number of rows is a convention.
* And the odds of the part with the smallest mean loss are the highest so far: jitter around an optimum has runs of
  aligned changes too, but gets nowhere.
* And the weights are no nearer to their first row than where these changes began. An optimum in the interior that moves
  there and back (L / sum L does: the losses first part, then come down together) makes a way home of nothing but
  aligned changes. Descent from the start has none: with dw_i = w_i (Lbar - L_i) and constant losses Lbar falls, so each
  share rises first and falls later, and the distance to the start never shrinks.
* The forecast continues the mean change of the log odds to a share of 90 %. Adam does that; plain descent slows down
  near the vertex (w ~ 1/t).

## When it is wrong
An objective with an interior optimum moves the same way at first and stops there: the warning then comes for a motion
that ends by itself. Weights of seed 0, 10 seeds each, 12 images of 30 rows with the loss shares that the original
logged: learnable, KL, uncertainty and entropy 10 of 10 warned of, importance 6, group DRO 0; with the flatter shares of
the case's own denoiser importance 10 and DRO 5 (3 images: `tests/cases/test_attack_weights.py`). The part that is named
goes by the losses so far: right in 5 of 10 there, as each image has losses of its own.
Weights that are trained for something else and drift towards small losses by chance look the same. A fixed schedule
that is meant to be fixed gets the note. In a resumed run the motion counts from there. Measured: no alarm on 200
healthy AR(1) series of 3000 rows. In tiny trainings (3 seeds each; `tests/rules/test_rules_on_trainings.py`) descent
was found within 40 steps of 500, and weights that follow the large losses were left alone, also there and back.

## Remedies
`importance-weights` (w = L / sum L) or `tilted-weights` where large losses are to count more; `kl-weights` and
`uncertainty-weights` where small ones may, within bounds; `separate-weights` for a criterion of one's own; a constant,
such as `min-snr-weights` for timesteps of a diffusion. Detaching only freezes. Whether learned weights help at all is a
trial against uniform ones, by a knob.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> def row(t):
...     moved = {"loss_weight_alignment": 0.9, "loss_weight_odds": -1.4 + 0.002 * t, "loss_weight_vertex": 0.0}
...     return Row(step=t, site=RUN, values=moved)
>>> [found] = detect([row(t) for t in range(60)], rules=(LossWeightCollapse(),))
>>> found.severity, found.detected, round(found.evidence["vertex_at_step"])
('warning', 27, 1799)

## References
Mei et al., "On the global convergence rates of softmax policy gradient methods", arXiv 2005.06392. Derivations T1 and
T2 and mode 14 of the catalogue; the case `timestep_attack`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import (
    LOG_EVIDENCE,
    NAN,
    PATIENCE,
    RUN_LENGTH,
    TRANSIENT,
    Evidence,
    Persistence,
    gather,
    lasting,
    persist,
    since_start,
)
from pitprop.rules._rule import Shelf, at

ARRIVED = math.log(9)
"""Log odds of a share of 90 %; further on, plain descent and Adam slow down alike."""


class State(NamedTuple):
    """Evidence of the direction, persistence at the vertex and of no motion, the vertex' first and highest odds, and
    how far from the start the changes that count as evidence began.
    """

    towards: Evidence
    at_vertex: Persistence
    unmoved: Persistence
    vertex: float
    first_step: int
    first_odds: float
    highest: float
    began: float


@dataclass(frozen=True, kw_only=True)
class LossWeightCollapse:
    """Loss weights go to one part."""

    name: ClassVar[str] = "loss-weight-collapse"
    reads: ClassVar[tuple[str, ...]] = (
        "loss_weight_alignment",
        "loss_weight_concentration",
        "loss_weight_odds",
        "loss_weight_vertex",
        "loss_weight_motion",
    )
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = (
        "importance-weights",
        "tilted-weights",
        "kl-weights",
        "uncertainty-weights",
        "separate-weights",
        "Knob",
        "Freeze",
    )
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    concentrated: float = 0.9
    """Concentration over which one part has nearly everything."""
    aligned: float = 0.6
    """Share of changes that may be towards the small losses."""
    patience: int = PATIENCE
    untrained: int = 100
    """Rows without any motion after which nothing seems to train the weights."""

    def init(self) -> State:
        return State(Evidence(), Persistence(), Persistence(), NAN, -1, NAN, NAN, NAN)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        alignment, concentration, odds, vertex, motion = (row.values.get(name, math.nan) for name in self.reads)
        if not math.isnan(alignment):
            if not state.towards.log_best > 0:
                state = state._replace(began=motion)
            state = state._replace(towards=gather(state.towards, row.step, float(alignment > 0), self.aligned))
        if not math.isnan(motion):
            state = state._replace(unmoved=persist(state.unmoved, row.step, motion == 0))
        if not math.isnan(concentration):
            there = concentration > self.concentrated and motion != 0
            state = state._replace(at_vertex=persist(state.at_vertex, row.step, there))
        if math.isfinite(odds) and vertex != state.vertex:  # another part's odds are another series
            state = state._replace(vertex=vertex, first_step=row.step, first_odds=odds, highest=odds)
        gained = not (odds < state.highest or motion < state.began)  # what is unknown is no objection
        if math.isfinite(odds):
            state = state._replace(highest=max(state.highest, odds))
        evidence = {k: row.values[k] for k in self.reads if k in row.values}
        severity: Severity = self.severity
        if lasting(state.at_vertex, self.patience, TRANSIENT):
            onset, seen = state.at_vertex.onset, "one part has nearly all the weight"
            meaning = "the other losses are no longer trained"
        elif gained and state.towards.log_sum >= math.log(RUN_LENGTH):
            severity, onset = "warning", state.towards.onset
            arrival = _arrival(state, row.step, odds)
            evidence |= {LOG_EVIDENCE: state.towards.log_sum, "vertex_at_step": arrival}
            seen = "the weights move towards the small losses in most steps"
            part = "" if math.isnan(vertex) else f"part {vertex:.0f} has 90 % "
            meaning = "descent on a weighted sum ends with all weight on the smallest"
            if not math.isnan(arrival):
                meaning = f"at this rate {part}at about step {arrival:.0f}"
        elif since_start(state.unmoved) and state.unmoved.count >= self.untrained:
            severity, onset, seen = "note", state.unmoved.onset, "the weights have not moved at all"
            meaning = "nothing trains them, so that they are stable says nothing"
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


def _arrival(state: State, step: int, odds: float) -> float:
    """Step at which the vertex has a share of 90 %, at the mean rate so far; NaN where it does not get nearer."""
    if not (math.isfinite(odds) and step > state.first_step and odds > state.first_odds):
        return NAN
    return step + (ARRIVED - odds) * (step - state.first_step) / (odds - state.first_odds)
