"""Two losses pull the same weights in opposite directions.

## What it detects
The cosine of the two losses' gradients is negative in most batches, beyond chance.

## Why it matters
It is a cofactor: a step that helps one loss undoes part of the other's. Whether anything is lost is for a trial to say.

## Reads
`gradient_cosine` at the run, or one per pair of losses:

    from pitprop.watch.by_hand import loss_conflict
    if watch.sampling:
        watch.log(gradient_cosine={"pixels/perceptual": loss_conflict(l_pixels, l_perceptual, model)})

before `backward()`, on the losses of the same batch.

## Threshold
A sign test over batches, anytime-valid: if at most three of five cosines are negative, given the past, it fires no
sooner than once in 10 000 rows. Unrelated losses are a coin; three of five keeps a distance to it, and is a convention.
Conflict in every batch is found in about 30 rows.

## When it is wrong
Where a sum of losses has converged, their gradients are opposite by necessity: they add up to zero. So it means the
more, the earlier it comes. Large and small gradients count alike. Measured: no alarm on 200 healthy AR(1) series of
3000 rows. In tiny trainings (3 seeds each) opposed targets were found, and equal ones left alone.

## Remedies
Whether one of the losses is better off alone is settled by a trial of its weight (`Knob`); projecting conflicting
gradients is known to help some task pairs.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"gradient_cosine": 0.1 if t < 50 else -0.3}) for t in range(100)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(GradientConflict(),))]
[('note', 50, 76)]

## References
Yu et al., "Gradient surgery for multi-task learning" (PCGrad), arXiv 2001.06782. Catalogue, mode 9.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import LOG_EVIDENCE, RUN_LENGTH, Evidence, gather
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class GradientConflict:
    """Gradients of two losses disagree in most batches; a cofactor."""

    name: ClassVar[str] = "gradient-conflict"
    reads: ClassVar[tuple[str, ...]] = ("gradient_cosine",)
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "Detach")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    share: float = 0.6
    """Share of batches that may be in conflict."""

    def init(self) -> Evidence:
        return Evidence()

    def update(self, state: Evidence, row: Row) -> tuple[Evidence, Finding | None]:
        cosine = row.values.get("gradient_cosine", math.nan)
        if math.isnan(cosine):
            return state, None
        state = gather(state, row.step, float(cosine < 0), self.share)
        if state.log_sum < math.log(RUN_LENGTH):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"the gradients of the two losses oppose each other in most batches{at(row.site)} since step "
            f"{state.onset} (cosine {cosine:.2f} now); near the end of a training that is how a sum of losses settles.",
            evidence={"gradient_cosine": cosine, LOG_EVIDENCE: state.log_sum},
            remedies=self.remedies,
        )
