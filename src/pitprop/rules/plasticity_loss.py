"""The network takes ever longer to learn something new.

## What it detects
A copy of the network needs more than twice as many steps to fit fresh random targets as in the first measurements, five
measurements in succession.

## Why it matters
Long or non-stationary training can cost a network its ability to learn: later tasks, data or stages are learned slowly
or not at all, with every curve of the present task looking fine.

## Reads
`steps_to_fit`, at the run. It is costly, so the loop asks for it now and then (every few hundred steps):

    from pitprop.watch.by_hand import steps_to_fit
    if step % 500 == 0:
        watch.log(steps_to_fit=steps_to_fit(model, inputs))

The helper trains a copy on targets of its own random numbers; model and generators stay as they are. A fit that is
given up is infinite, which counts.

## Threshold
Twice the median of the first five measurements, five times in succession. Both numbers are conventions: how much slower
is too slow depends on what is still to be learned.

## When it is wrong
A network that has become certain about its task takes longer to be moved to random targets and may still be plastic for
related ones. A decayed step size is not part of it: the helper has its own. Fewer than ten measurements can say
nothing.

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
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.slow.onset,
            detected=row.step,
            message=f"a copy takes {steps:.0f} steps to fit random targets{at(row.site)} since step {state.slow.onset},"
            f" {steps / first:.1f} times the first measurements' {first:.0f}; trial to settle it: --reinitialise.",
            evidence={"steps_to_fit": steps, "steps_to_fit_reference": first},
            remedies=self.remedies,
        )
