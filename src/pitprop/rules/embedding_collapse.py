"""All embeddings point in one direction.

## What it detects
The normalised embeddings of different inputs differ by less than a hundredth of what isotropic ones would.

## Why it matters
The constant is a perfect answer to "embed two views alike", so the loss is at its best when everything is lost.

## Reads
`embedding_spread` (root of the summed variance of z/|z|; 1 is isotropic, 0 is constant), at the run or the site that
was given: `watch.log(embeddings=z)`, one per sample, as they enter the loss.

## Threshold
Under 0.01 for 20 rows and not before row 120. The scale is the problem's: an isotropic batch has a standard deviation
of 1/sqrt(d) per dimension, which is a spread of 1 for every width. A hundredth is a convention, at which half types
begin to lose the differences.

## When it is wrong
A common direction that later layers take off (a bias before a normalisation) hides differences that are there: give the
embeddings as the loss sees them. Deep random networks start that low (3e-4 after 12 linear layers with ReLU in torch's
default) and may still learn, so the first 100 rows don't count. Batches of views of one input are alike by right.
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
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, Persistence, lasting, persist, since_start
from pitprop.rules._rule import Shelf, at


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
    patience: int = PATIENCE
    transient: int = 100

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        spread = row.values.get("embedding_spread", math.nan)
        if math.isnan(spread):
            return state, None
        state = persist(state, row.step, spread < self.spread)
        if not lasting(state, self.patience, self.transient):
            return state, None
        since = "since the first row" if since_start(state) else f"since step {state.onset}"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"embeddings have {spread:.2%} of the spread of isotropic ones{at(row.site)} {since}; "
            "every input is embedded alike.",
            evidence={"embedding_spread": spread},
            remedies=self.remedies,
        )
