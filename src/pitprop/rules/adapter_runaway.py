"""A low-rank adapter has become larger than the layer that it adapts.

## What it detects
The largest gain of the adapter is over that of its layer, for 20 rows, and grows faster than it ever did on the way
there, or got there within its first steps; or it is over ten times that.

## Why it matters
An adapter is a correction. Past the size of what it corrects, the layer's own directions are drowned, and what the
base model knew is gone from the output. A hypernetwork that writes adapters without a bound does this in a few epochs.

## Reads
`adapter_ratio` (|B A|_2 over |W|_2, scaling multiplied in), at the module that holds the adapter; at the run, if the
loop logs it for adapters of its own making.

## Threshold
* Over 1, where both count alike: structural, for 20 rows. By itself it is no failure: an adapter whose task is far
  from the base's outgrows it and settles there.
* And, over those 20 rows, a growth a step that is faster than any it had while it was smaller than its layer. That is a
  reference of the adapter's own: Adam's first steps all go one way, so a healthy adapter grows fastest at its start and
  slower ever after. What grows faster later has got larger steps, or writes itself without a bound.
* Or over 1 since before step 20: no network has learned so much in its first transient; its first steps are too large.
* Or over 10, for 20 rows: nothing of the layer's directions is left, however slowly that came. An order of magnitude,
  a convention.

## When it is wrong
A warm-up of the learning rate that goes on when the adapter is over 1 already makes growth faster by right. A base that
is small or random by itself is overtaken by right. Growth at an even pace is found at 10 only. An adapter over 1 in its
first row has no growth of its own to compare with. The base's norm comes from the power method, which is a few per cent
low. Measured: no alarm on 200 healthy AR(1) series of 3000 rows.

## Remedies
A smaller `LearningRate` of the adapter, `WeightDecay` on it, or a clamp on its norm; a trial says which.

## Example
>>> from pitprop.records import Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site="q_proj", values={"adapter_ratio": 1e-4 * t**2}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(AdapterRunaway(),))]
[('warning', 101, 120)]

## References
Catalogue of failure modes, mode 12 (second collapse of the system behind the case `grid_solver`). Hu et al., "LoRA",
arXiv 2106.09685.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import NAN, PATIENCE, TRANSIENT, Persistence, persist, since
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Persistence over the layer and over ten times that, the last rows, and the fastest growth under the layer."""

    over: Persistence
    far_over: Persistence
    steps: tuple[int, ...]
    ratios: tuple[float, ...]
    """Oldest first, NaN while there are fewer."""
    fastest: float
    """Growth a step, over `patience` rows or what there was; NaN before it was measured."""


@dataclass(frozen=True, kw_only=True)
class AdapterRunaway:
    """An adapter outweighs its layer, and does not settle."""

    name: ClassVar[str] = "adapter-runaway"
    reads: ClassVar[tuple[str, ...]] = ("adapter_ratio",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ("LearningRate", "WeightDecay", "Scale")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    ratio: float = 1.0
    """Gain of the adapter over that of its layer, over which it dominates."""
    drowned: float = 10.0
    """Over which nothing is left of the layer, whatever the growth."""
    patience: int = PATIENCE

    def init(self) -> State:
        return State(Persistence(), Persistence(), (-1,) * self.patience, (NAN,) * self.patience, NAN)

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        ratio = row.values.get("adapter_ratio", math.nan)
        if math.isnan(ratio):
            return state, None
        known = [(s, r) for s, r in zip(state.steps, state.ratios, strict=True) if not math.isnan(r)]
        growth = (ratio - known[0][1]) / max(row.step - known[0][0], 1) if known else math.nan
        over = persist(state.over, row.step, ratio > self.ratio)
        far_over = persist(state.far_over, row.step, ratio > self.drowned)
        under = not over.count and not math.isnan(growth)
        fastest = growth if under and not growth <= state.fastest else state.fastest
        state = State(over, far_over, (*state.steps[1:], row.step), (*state.ratios[1:], ratio), fastest)
        faster = over.count >= self.patience and growth > fastest
        rushed = over.count >= self.patience and over.onset < TRANSIENT and not math.isnan(fastest)
        if not faster and not rushed and far_over.count < self.patience:
            return state, None
        how = f"grows by {growth:.2g} a step, before by {fastest:.2g} at most" if faster else "hides it"
        how = "was so within its first steps" if rushed else how
        return state, Finding(
            rule=self.name,
            severity=self.severity,
            site=row.site,
            onset=over.onset,
            detected=row.step,
            message=f"the adapter's gain is {ratio:.3g} times its layer's{at(row.site)}, over it {since(over)}, and "
            f"{how}; it no longer corrects the layer but replaces it.",
            evidence={"adapter_ratio": ratio, "growth_per_step": growth, "fastest_growth_per_step": fastest},
            remedies=self.remedies,
        )
