"""Whether a trace has rows enough for the rules: their silence on a thin one is no all-clear."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pitprop.records import RUN, Finding
from pitprop.rules._detector import Detector
from pitprop.rules._online import PATIENCE, TRANSIENT
from pitprop.rules._rule import Rule
from pitprop.trace import Reader

ROWS = TRANSIENT + PATIENCE
"""Measured steps that most rules need before they say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What rules say of a trace, and whether there was enough of it."""

    findings: tuple[Finding, ...]
    num_measured: int
    """See `measured_steps`."""
    too_few: str
    """What to say where the rules' silence means little; else empty."""


def replay(trace: Reader, rules: Iterable[Rule] | None = None, allow: Iterable[str] = ()) -> Replay:
    """Fold `rules` (by default all) over a whole trace; see `detect`."""
    detector, seen, findings = Detector(rules, allow), Counter(), []
    for row in trace.rows():
        seen[row.site] += 1
        findings += detector.update(row)
    num_measured = measured_steps(seen)
    return Replay(findings=tuple(findings), num_measured=num_measured, too_few=too_few(num_measured, num_steps(trace)))


def measured_steps(rows: Counter[str]) -> int:
    """Of the numbers of rows by site, the largest of a module; the run's own where nothing else was measured.

    A loop may log its loss on every step: the run's own rows say nothing of how often the model was looked at.
    """
    return max((count for site, count in rows.items() if site != RUN), default=rows[RUN])


def num_steps(trace: Reader) -> int:
    """Steps that the run had, as far as its trace can tell."""
    schedule: dict = trace.meta("schedule", {})  # type: ignore[assignment]
    last = trace.last_step
    return max(schedule.get("num_steps", 0), 0 if last is None else last + 1)


def too_few(num_measured: int, num_steps: int) -> str:
    """What to say of a run of which so little was measured that the rules could not speak; empty where it is enough."""
    if num_measured >= ROWS:
        return ""
    advice = "watch with a smaller `every=` or a larger `budget=`" if num_steps >= ROWS else "a longer run tells more"
    return f"Too few rows to tell: {num_measured} of {num_steps} steps measured, most rules need {ROWS}; {advice}."
