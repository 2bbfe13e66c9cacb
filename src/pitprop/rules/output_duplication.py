"""Different inputs get the same output.

## What it detects
The outputs of a batch have become one answer: they differ from each other by less than a hundredth of what the targets
do, or most of them are copies and they differ by less than a tenth. A network that has been constant since its first
step is found too, with onset at the first row.

## Why it matters
A network whose output ignores its input has learned the best constant. Its loss can still look fine, because the best
constant is often a good answer, and its attention can look healthy, because entropy and duplication are independent.

## Reads
`output_spread` (mean pairwise distance of the outputs over that of the targets; 1 is as different as the targets) and
`output_uniqueness` (share of distinct rows), at the run.

## Threshold
* Spread under 0.01, for 20 rows, and not before row 40. A calibrated predictor whose outputs have a hundredth of the
  targets' spread explains about 0.01^2 = a ten-thousandth of their variance: the step from "little" to "nothing".
* Or fewer than half of the rows distinct while the spread is under 0.1. Both numbers are conventions (a majority, an
  order of magnitude). Uniqueness alone is no verdict: a converged classifier has few answers and is right.
* Without targets nothing says how different the outputs should be: the finding is then a warning, not a failure.
* Lost: after outputs that differed for 20 rows (the first 20 not counted), 20 rows of one answer are a failure. Both
  are conventions.
* Never better: networks learn the mean before anything else, and deep ones begin with outputs that hardly differ. So
  one answer since the start is a failure from row 240 on, the longest that such a start took in experiments
  (science.md, b), and no sooner than after 20 rows. By its level a good start can't be told from a collapse.
* Constant: outputs that are equal but for rounding (spread under 1e-6) for 20 rows, not before row 40, are no start: a
  zero-initialised path wakes up within a few steps.

## When it is wrong
Targets that can't be predicted from the input make the constant the right answer; the rule still says so. A start at
the constant of more than 240 rows is reported before it is left, and one that hardly depends on its input from the
first step, but is not constant, not before row 240. Outputs that are compared within a
batch of repeated inputs are duplicates by right. Without targets, a task with few answers or outputs
with a large common offset are false alarms.

## Remedies
Going back to a state before the onset or drawing weights again is the strongest that was measured. Otherwise remove
the cause: saturated units, a step size too large, or an objective that a constant satisfies.

## Example
Outputs that shrink to a constant from step 100 on:

>>> from pitprop.records import RUN, Row
>>> from pitprop.rules import detect
>>> rows = [Row(step=t, site=RUN, values={"output_spread": 0.8 if t < 100 else 0.001}) for t in range(200)]
>>> [(f.severity, f.onset, f.detected) for f in detect(rows, rules=(OutputDuplication(),))]
[('failure', 100, 119)]

## References
Catalogue of failure modes, mode 16 (output duplication); measured in the case `model_merging`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pitprop.records import Finding, Row, Severity
from pitprop.rules._online import PATIENCE, Persistence, lasting, persist, since
from pitprop.rules._plateau import Plateau, dwell, stuck
from pitprop.rules._rule import Shelf, at


class State(NamedTuple):
    """Outputs that are alike, and outputs that are equal."""

    alike: Plateau = Plateau()
    equal: Persistence = Persistence()


@dataclass(frozen=True, kw_only=True)
class OutputDuplication:
    """Outputs of different inputs are the same."""

    name: ClassVar[str] = "output-duplication"
    reads: ClassVar[tuple[str, ...]] = ("output_spread", "output_uniqueness")
    severity: ClassVar[Severity] = "failure"
    remedies: ClassVar[tuple[str, ...]] = ("Reinitialise", "Replace", "LearningRate", "Knob")
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    rounding: float = 1e-6
    """Spread under which outputs are equal: ten times the rounding of float32."""
    no_spread: float = 0.01
    """Spread under which the outputs are one answer, whatever their uniqueness."""
    little_spread: float = 0.1
    """Spread under which copies are not explained by targets that have few answers."""
    majority: float = 0.5
    """Share of distinct rows under which most rows are copies."""
    patience: int = PATIENCE
    """Rows of one answer after better ones."""

    def init(self) -> State:
        return State()

    def update(self, state: State, row: Row) -> tuple[State, Finding | None]:
        spread = row.values.get("output_spread", math.nan)
        unique = row.values.get("output_uniqueness", math.nan)
        if math.isnan(spread) and math.isnan(unique):
            return state, None
        # A comparison with NaN is false: an unknown spread neither convicts nor explains copies away.
        copies = unique < self.majority and not spread >= self.little_spread
        alike = spread < self.no_spread or copies
        state = State(
            dwell(state.alike, row.step, alike, better=not alike),
            persist(state.equal, row.step, spread < self.rounding),
        )
        if not stuck(state.alike, self.patience) and not lasting(state.equal, self.patience):
            return state, None
        seen = [f"outputs differ by {spread:.2g} of what the targets do"] if not math.isnan(spread) else []
        seen += [f"{unique:.0%} of the rows are distinct"] if not math.isnan(unique) else []
        return state, Finding(
            rule=self.name,
            severity="warning" if math.isnan(spread) else self.severity,
            site=row.site,
            onset=state.alike.inside.onset,
            detected=row.step,
            message=f"{' and '.join(seen)}{at(row.site)} {since(state.alike.inside)}; the network answers every "
            "input alike.",
            evidence={k: row.values[k] for k in self.reads if k in row.values},
            remedies=self.remedies,
        )
