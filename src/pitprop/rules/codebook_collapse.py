"""A quantiser uses a small part of its codebook.

## What it detects
A batch shows less than a tenth of the different codes that it would show if all codes were equally likely.

## Why it matters
The bottleneck is narrower than it was built: K codes of which a tenth is used carry log2 10 = 3.3 bits less per
position. Codes that are never chosen get no gradient, so it doesn't mend itself.

## Reads
`code_usage` (distinct codes of the batch over the coupon collector's expectation), at the run or at the quantiser's
name: `watch.log(codes=indices, num_codes=1024)`, or `codes={"vq.0": ..., "vq.1": ...}`.

## Threshold
Under 0.1 for 20 rows and not before row 120. n draws from K equally likely codes show K (1 - (1 - 1/K)^n) different
ones: exact for any batch size, so small batches are not held against a large codebook. A tenth is a convention: real
codes are not equally likely, so healthy codebooks lie below 1. The first 100 rows don't count, because random codebooks
may begin far from the data.

## When it is wrong
A batch that is all of one kind (one image, one speaker) uses few codes by right. Codebooks that are meant to be sparse.
A codebook whose batches use other codes in turn is not seen to be healthy. In tiny trainings (3 seeds each) a codebook
far from the data was found, and one among the data left alone.

## Remedies
Restarting dead codes on data, initialising by k-means, a smaller or normalised codebook: by a knob of the recipe.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="vq", values={"code_usage": 0.6 if t < 150 else 0.02}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(CodebookCollapse(),))]
[('warning', 150, 169)]

## References
van den Oord, Vinyals and Kavukcuoglu, arXiv 1711.00937. Dhariwal et al., "Jukebox", arXiv 2005.00341 (random restarts).
Fifty et al., "Restructuring vector quantization with the rotation trick", arXiv 2410.06424. Catalogue, mode 19.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, Persistence, lasting, persist, since
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class CodebookCollapse:
    """Most codes are never chosen."""

    name: ClassVar[str] = "codebook-collapse"
    reads: ClassVar[tuple[str, ...]] = ("code_usage",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("Knob", "Reinitialise", "LearningRate")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    few: float = 0.1
    """Distinct codes over the expected number, under which the codebook has collapsed."""
    patience: int = PATIENCE
    transient: int = 100

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        usage = row.values.get("code_usage", math.nan)
        if math.isnan(usage):
            return state, None
        state = persist(state, row.step, usage < self.few)
        if not lasting(state, self.patience, self.transient):
            return state, None
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"a batch shows {usage:.1%} of the codes that a balanced codebook would{at(row.site)} "
            f"{since(state)}; codes that are never chosen get no gradient.",
            evidence={"code_usage": usage},
            remedies=self.remedies,
        )
