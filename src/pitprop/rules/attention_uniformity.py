"""Attention spreads evenly over all keys.

## What it detects
The mean normalised entropy of an attention site stays within a thousandth of its maximum. The note says whether that
has been so since the first row or came about during training.

## Why it matters
It is a cofactor, never a verdict. Uniform attention is an average over the tokens: enough for many tasks, right over
equal keys, and where training starts. What it explains is found by its consequences (`output-duplication`,
`token-uniformity`), and whether it matters by an ablation that forces it.

## Reads
`attention_entropy`, normalised by ln(visible keys): 1 is uniform, 0 is one-hot.

## Threshold
1 - entropy < 0.001 for 20 rows and not before row 40. For n keys, 1 - H = sigma^2 / (2 ln n) with sigma the standard
deviation of the logits along the keys: at n = 50 attention weights then differ by less than 9 %. The value is a
convention; entropy at common initialisations is 0.88 to 0.98, and over 0.995 where they are narrow (truncated normal
0.02; the narrower the model, the closer to 1).

## When it is wrong
As a note it can't be wrong about the entropy, only be beside the point, and often is: in the case `model_merging` a
model forced to uniform attention still gives a distinct output for every input. Initialisations under 0.02 start
inside the threshold and are noted if they stay there for 40 rows. It is a mean over heads: one selective head among
many uniform ones is noted as uniform.

## Remedies
None by itself. `Ablate` (force it) says whether selection matters; then a larger logit scale or no weight decay on q,
k.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="attn", values={"attention_entropy": 0.97 if t < 80 else 0.9999}) for t in range(120)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AttentionUniformity(),))]
[('note', 80, 99)]

## References
Catalogue of failure modes, mode 2. Giorlandino and Goldt, "Two failure modes of deep transformers and how to avoid
them", arXiv 2505.24333 (entropy and logit scale).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, TRANSIENT, Persistence, lasting, persist, since_start
from pitprop.rules._rule import Shelf, at


@dataclass(frozen=True, kw_only=True)
class AttentionUniformity:
    """Attention does not select; a cofactor."""

    name: ClassVar[str] = "attention-uniformity"
    reads: ClassVar[tuple[str, ...]] = ("attention_entropy",)
    severity: ClassVar[Severity] = "note"
    remedies: ClassVar[tuple[str, ...]] = ("Ablate",)
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    gap: float = 1e-3
    """Distance to the maximal entropy under which attention is uniform."""
    patience: int = PATIENCE
    transient: int = TRANSIENT

    def init(self) -> Persistence:
        return Persistence()

    def update(self, state: Persistence, row: Row) -> tuple[Persistence, Finding | None]:
        entropy = row.values.get("attention_entropy", math.nan)
        if math.isnan(entropy):
            return state, None
        state = persist(state, row.step, 1 - entropy < self.gap)
        if not lasting(state, self.patience, self.transient):
            return state, None
        how = "has been uniform since the first row" if since_start(state) else f"became uniform at step {state.onset}"
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=state.onset,
            detected=row.step,
            message=f"attention {how} (normalised entropy {entropy:.4f}){at(row.site)}; "
            "it averages over the keys, which may be all the task needs.",
            evidence={"attention_entropy": entropy},
            remedies=self.remedies,
        )
