"""What rules are made of: a frozen reference, an e-detector with a margin, persistence, and the three together.

Every state is a NamedTuple of numbers whose shape never changes, every function is pure, and every function asks about
NaN first: `max(0.0, nan)` is 0.0 in Python, so a detector that forgets to ask is silenced by the very values it is for.

Why not a control chart: training metrics are autocorrelated and runs are long. On healthy AR(1) series of 3000 rows a
3-sigma chart that knows mean and deviation exactly alarms in at least 60 % of the runs, and CUSUM(k=.5, h=5) in at
least 98 % (autocorrelation 0 to 0.98; `tests/rules/test_rules_control_charts.py`). The e-detector (Shin, Ramdas and
Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", arXiv 2203.03532; the
Shiryaev-Roberts form) needs no independence, only that a healthy run stays under the margin on average.
"""

import math
import statistics
from typing import NamedTuple

NAN = math.nan
WARM_UP = 20
"""Rows of the reference. A convention: long enough for a median, short enough for runs that are sampled rarely."""
PATIENCE = 20
"""Consecutive rows that a condition must hold. A convention."""
TRANSIENT = 20
"""First rows, in which no level is held against a network: it learns the mean before anything else. A convention."""
RUN_LENGTH = 1e4
"""Rows that a healthy series lasts on average, at least, before the e-detector alarms (1 / alpha). `_many.py` asks for
more where a rule looks at many sites."""
LOG_EVIDENCE = "log_evidence"
"""Name, among a finding's evidence, of the `log_sum` that it rests on. A finding without it rests on an exact condition
or a level, not on chance, and is not corrected for the number of sites."""
SMALLEST_MARGIN = 0.05
"""Smallest margin, as a share of the way from healthy to failed: a lesser shift is of no interest."""


class Reference(NamedTuple):
    """Median and robust standard deviation (1.4826 MAD) of the first finite rows, then frozen.

    Frozen, because a running reference chases the very shift that it should show.
    """

    window: tuple[float, ...]
    """First finite values, padded with NaN; all NaN once frozen."""
    centre: float = NAN
    """Median; NaN until the window is full."""
    spread: float = NAN
    """Robust standard deviation; NaN until the window is full."""


def new_reference(num_rows: int = WARM_UP) -> Reference:
    """A reference that freezes after `num_rows` finite values."""
    return Reference((NAN,) * num_rows)


def observe(reference: Reference, value: float) -> Reference:
    """`reference` after one more value; values that are not finite leave it as it is."""
    if not math.isfinite(value) or not math.isnan(reference.centre):
        return reference
    size = len(reference.window)
    seen = [v for v in reference.window if not math.isnan(v)] + [value]
    if len(seen) < size:
        return Reference(tuple(seen) + (NAN,) * (size - len(seen)))
    return Reference((NAN,) * size, *robust(seen))


def robust(values) -> tuple[float, float]:
    """Median and 1.4826 times the median absolute deviation of finite `values`."""
    centre = statistics.median(values)
    return centre, 1.4826 * statistics.median(abs(v - centre) for v in values)


class Evidence(NamedTuple):
    """Evidence against "the series stays under its margin", gathered over every possible onset."""

    log_sum: float = -math.inf
    """ln M, with M = (M + 1)(1 + lambda (X - margin)): the sum of the evidence of all onsets."""
    log_best: float = 0.0
    """ln of the evidence of the best onset (the CUSUM of the same increments); 0 is none."""
    onset: int = -1
    """Best onset: the step at which the current excursion began; means something while `log_best` is over 0. A slow
    wander that leads into the change counts as part of it, so it can be early by the autocorrelation time."""


def gather(evidence: Evidence, step: int, excess: float, margin: float) -> Evidence:
    """`evidence` after a row whose distance from the reference is `excess`.

    Args:
        evidence: What was known.
        step: Step of the row.
        excess: Distance in the bad direction, as a share of the way to failure; clipped to [0, 1]. NaN is no evidence.
        margin: Distance that a healthy series may keep on average, over 0.
    """
    if math.isnan(excess):
        return evidence
    bounded = min(max(excess, 0.0), 1.0)
    gain = math.log1p(0.5 * (bounded - margin) / margin)  # lambda = .5 / margin keeps the factor over one half
    log_sum = max(evidence.log_sum, 0.0) + math.log1p(math.exp(-abs(evidence.log_sum))) + gain  # ln(M + 1) + gain
    onset = evidence.onset if evidence.log_best > 0 else step
    return Evidence(log_sum, max(0.0, evidence.log_best + gain), onset)


class Persistence(NamedTuple):
    """How long a condition has held without a break."""

    rows: int = 0
    """Rows seen."""
    count: int = 0
    """Rows in succession, up to now, in which the condition held."""
    onset: int = -1
    """Step of the first of them."""


def persist(state: Persistence, step: int, holds: bool) -> Persistence:
    """`state` after one more row. The caller leaves out rows in which the condition is undefined."""
    if not holds:
        return Persistence(rows=state.rows + 1)
    return Persistence(state.rows + 1, state.count + 1, state.onset if state.count else step)


def lasting(state: Persistence, patience: int = PATIENCE, transient: int = TRANSIENT) -> bool:
    """Whether the condition has held for `patience` rows, the first `transient` rows of the run not counted."""
    return state.count >= patience and state.rows >= transient + patience


def since_start(state: Persistence) -> bool:
    """Whether the condition has held in every row there was."""
    return state.count == state.rows > 0


def since(state: Persistence) -> str:
    """Since when the condition has held, in words."""
    return "since the first row" if since_start(state) else f"since step {state.onset}"


class Shift(NamedTuple):
    """A series that leaves its own reference: reference, evidence that it did, and persistence at the failed level."""

    reference: Reference
    evidence: Evidence = Evidence()
    at_level: Persistence = Persistence()


def new_shift(num_rows: int = WARM_UP) -> Shift:
    """A shift detector whose reference freezes after `num_rows` finite values."""
    return Shift(new_reference(num_rows))


def follow(state: Shift, step: int, value: float, span: float) -> Shift:
    """`state` after one more row of a series in which up is bad.

    Args:
        state: What was known.
        step: Step of the row.
        value: Value on a scale on which differences mean something (take logs of norms). Not finite: no evidence.
        span: Distance from the reference at which the series counts as failed; the margin is five robust standard
            deviations, and no less than `SMALLEST_MARGIN` of the span. Not positive: the series began failed, and a
            shift can't say anything.
    """
    if not math.isfinite(value):
        return state
    if math.isnan(state.reference.centre):
        return state._replace(reference=observe(state.reference, value))
    if not span > 0:
        return state
    excess = (value - state.reference.centre) / span
    margin = max(5.0 * state.reference.spread / span, SMALLEST_MARGIN)
    return Shift(
        state.reference, gather(state.evidence, step, excess, margin), persist(state.at_level, step, excess >= 1.0)
    )


def shifted(state: Shift, patience: int = PATIENCE, run_length: float = RUN_LENGTH) -> bool:
    """Whether the shift is beyond chance and the series has stayed at the failed level for `patience` rows."""
    return state.evidence.log_sum >= math.log(run_length) and state.at_level.count >= patience
