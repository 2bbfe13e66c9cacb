"""All embeddings point in one direction.

## What it detects
The normalised embeddings of different inputs differ by less than a hundredth of what isotropic ones would (failure), or
have come to differ by less than a tenth (warning).

## Why it matters
The constant is a perfect answer to "embed two views alike", so the loss is at its best when everything is lost.

## Reads
`embedding_spread` (root of the summed variance of z/|z|; 1 is isotropic, 0 is constant), at the run or the site that
was given: `watch.log(embeddings=z)`, one per sample, as they enter the loss.

## Threshold
* Failure: under 0.01 for 20 rows and not before row 120. The scale is the problem's: an isotropic batch has a standard
  deviation of 1/sqrt(d) per dimension, which is a spread of 1 for every width. A hundredth is a convention, at which
  half types begin to lose the differences.
* Warning: under 0.1 and half of the warm-up median, for 20 rows and not before row 120. The mean cosine of two
  embeddings is 1 less the spread squared, so it is over 0.99 then: 99 % of the power is in a common direction. A tenth
  is a convention. It comes first where a collapse takes long: as embeddings come together the gradient that draws them
  fades, and they may take thousands of steps to a hundredth.

## When it is wrong
A common direction that later layers take off (a bias before a normalisation) hides differences that are there: give the
embeddings as the loss sees them. Deep random networks start that low (3e-4 after 12 linear layers with ReLU in torch's
default) and may still learn, so the first 100 rows don't count. Batches of views of one input are alike by right.
Hidden states of a language model may gain a common direction and stay useful: hence the warning.
Measured: no alarm on 200 healthy AR(1) series of 3000 rows. In tiny trainings (3 seeds each) attraction alone was
found, and a contrastive loss was left alone.

## Remedies
Going back to before the onset. What prevents it is the objective: a stop-gradient, centring, a predictor or negatives
(`Knob`), and a smaller step size.

## Example
>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"embedding_spread": 0.7 if t < 120 else 0.002}) for t in range(160)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(EmbeddingCollapse(),))]
[('failure', 120, 139)]

## References
Chen and He, "Exploring simple siamese representation learning", arXiv 2011.10566. Catalogue, mode 21 (complete
collapse).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import (
    PATIENCE,
    Persistence,
    Reference,
    lasting,
    new_reference,
    observe,
    persist,
    since_start,
)
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Median of the warm-up, and persistence under the two levels."""

    reference: Reference
    collapsed: Persistence
    fallen: Persistence


@dataclass(frozen=True, kw_only=True)
class EmbeddingCollapse:
    """Embeddings of different inputs are the same."""

    name: ClassVar[str] = "embedding-collapse"
    reads: ClassVar[tuple[str, ...]] = ("embedding_spread",)
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Reinitialise", "Detach", "Knob", "LearningRate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    spread: float = 0.01
    """Spread under which all embeddings are one direction."""
    fallen: float = 0.1
    """Spread under which nearly all of the power is in one direction; a warning where it was not so at first."""
    patience: int = PATIENCE
    transient: int = 100

    def init(self) -> State:
        return State(new_reference(), Persistence(), Persistence())

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        spread = row.values.get("embedding_spread", math.nan)
        if math.isnan(spread):
            return state, None
        reference = state.reference.centre
        state = State(
            observe(state.reference, spread),
            persist(state.collapsed, row.step, spread < self.spread),
            persist(state.fallen, row.step, spread < self.fallen and spread < reference / 2),  # no reference yet: NaN
        )
        evidence = {"embedding_spread": spread}
        if lasting(state.collapsed, self.patience, self.transient):
            severity, onset = self.severity, state.collapsed.onset
            since = "since the first row" if since_start(state.collapsed) else f"since step {onset}"
            seen = f"embeddings have {spread:.2%} of the spread of isotropic ones{at(row.site)} {since}; "
            meaning = "every input is embedded alike."
        elif lasting(state.fallen, self.patience, self.transient):
            severity, onset = "warning", state.fallen.onset
            evidence |= {"spread_reference": reference}
            seen = f"the spread of the embeddings fell from {reference:.2g} to {spread:.2g}{at(row.site)} since step "
            meaning = f"{onset}; two embeddings have a cosine of {1 - spread**2:.3f} on average."
        else:
            return state, None
        return state, Finding(
            rule=self.name,
            severity=severity,
            site=row.site,
            onset=onset,
            detected=row.step,
            message=seen + meaning,
            evidence=evidence,
            remedies=self.remedies,
        )
