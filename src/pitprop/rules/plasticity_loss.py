"""The network takes ever longer to learn something new.

## What it detects
A copy of the network needs more than twice as many steps to fit fresh noise on its outputs as in the first
measurements, five measurements in succession.

## Why it matters
Long or non-stationary training can cost a network its ability to learn: later tasks, data or stages are learned slowly
or not at all, with every curve of the present task looking fine.

## Reads
`steps_to_fit`, at the run. It is costly, so the loop asks for it now and then (every few hundred steps):

    from pitprop.watch.by_hand import steps_to_fit
    if step % 500 == 0:
        watch.log(steps_to_fit=steps_to_fit(model, inputs))

The helper trains a copy on the model's own outputs plus random numbers of a fixed size; model and generators stay as
they are. A fit that is given up is infinite, which counts: ask with the same `size` and `most` all the time.

## Threshold
Twice the median of the first five measurements, five times in succession. Both numbers are conventions: how much slower
is too slow depends on what is still to be learned.

## When it is wrong
Targets of random numbers alone would take ever longer as a network becomes certain; hence its own outputs plus noise.
Weights that have grown take longer to move and may still be plastic: in one small healthy run (two development seeds)
measurements rose by up to 1.4 times. A decayed step size is not part of it: the helper has its own. Fewer than ten
measurements can say nothing, nor can those of a helper that gives up from the start: let it take more steps.

## Remedies
`Reinitialise` of the stiffest part settles as a trial whether plasticity is what is missing; `ResetOptimizer` whether
the moments are. Weight decay and normalisation prevent it.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=500 * t, site=RUN, values={"steps_to_fit": 40.0 if t < 10 else 130.0}) for t in range(20)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(PlasticityLoss(),))]
[('warning', 5000, 7000)]

## References
Dohare et al., "Loss of plasticity in deep continual learning", Nature 632 (2024). Lyle et al., "Understanding
plasticity in neural networks", arXiv 2303.01486. Catalogue, mode 28.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import Persistence, Reference, new_reference, observe, persist
from pitprop.rules._rule import Shelf, at

FIRST = 5
"""Measurements that make the reference; so rare are they."""


class State(NamedTuple):
    """Median of the first measurements, and persistence over twice of it."""

    reference: Reference
    slow: Persistence


@dataclass(frozen=True, kw_only=True)
class PlasticityLoss:
    """Fitting something new takes longer than it did."""

    name: ClassVar[str] = "plasticity-loss"
    reads: ClassVar[tuple[str, ...]] = ("steps_to_fit",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Reinitialise", "ResetOptimizer", "WeightDecay")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    factor: float = 2.0
    """Steps over those of the first measurements, over which plasticity is lost."""
    patience: int = FIRST

    def init(self) -> State:
        return State(new_reference(FIRST), Persistence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        steps = row.values.get("steps_to_fit", math.nan)
        if not steps > 0:  # NaN as well
            return state, None
        first = state.reference.centre
        if math.isnan(first):
            return state._replace(reference=observe(state.reference, steps)), None
        state = state._replace(slow=persist(state.slow, row.step, steps > self.factor * first))
        if state.slow.count < self.patience:
            return state, None
        seen = (
            f"takes {steps:.0f} steps to fit fresh noise, {steps / first:.1f} times the first measurements' {first:.0f}"
        )
        if math.isinf(steps):
            seen = f"no longer fits fresh noise, for which it took {first:.0f} steps at first"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.slow.onset,
            detected=row.step,
            message=f"a copy {seen}{at(row.site)} since step {state.slow.onset}; trial to settle it: --reinitialise.",
            evidence={"steps_to_fit": steps, "steps_to_fit_reference": first},
            remedies=self.remedies,
        )
