"""What a bisection answers: the record, its sentences, its file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pitprop.records import Comparison
from pitprop.trials.bisection.oracle import Step
from pitprop.trials.bisection.search import Culprits, Ends, Found
from pitprop.trials.bisection.sequential import share_interval
from pitprop.trials.interval import seeds_needed
from pitprop.trials.judge import finite_differences
from pitprop.trials.run import to_json_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """What a bisection found; the same is in the folder's `bisection.json`."""

    folder: Path
    """Holds `plan.json`, `runs/`, `bisection.json`."""
    command: tuple[str, ...]
    """The command line that makes it again."""
    changes: Mapping[str, str]
    """Every change between good and bad, with what it is in words."""
    ends: Comparison
    """Bad against good."""
    cut: float
    """Value of the metric beyond which a run counts as collapsed; NaN where only a metric that is not finite does."""
    found: Found
    """The sets that bring the collapse, those that cure it, who is exonerated, and what remains open."""
    steps: tuple[Step, ...]
    """The tests of the search, in their order."""
    confirm: tuple[Comparison, ...]
    """Each set, and each member of a set of several, on fresh seeds (95 % together, by Bonferroni's method)."""
    failed: tuple[Mapping[str, Any], ...]
    """Runs that raised or whose process died: changes, seed, error."""
    budget: int
    """Runs that were allowed."""
    runs: int
    """Runs that it took."""
    plan: str
    """Hash of the plan, written before the search began."""
    statement: str
    """The answer in plain language."""
    next: str
    """What to do now, or what may settle it."""
    wall_s: float
    """Seconds that it took."""

    @property
    def collapsed(self) -> bool:
        """Whether there is a collapse between good and bad to explain."""
        return self.found.ends in ("apart", "good collapses")

    @property
    def swapped(self) -> bool:
        """Whether bad is better than good, so that the two were swapped, perhaps."""
        return self.found.ends == "bad is better"

    def to_dict(self) -> dict[str, Any]:
        """JSON form; numbers that are not finite are the strings "nan", "inf" and "-inf"."""
        steps = [asdict(s) | {"interval": share_interval(s.collapsed, s.runs)} for s in self.steps]
        return to_json({"kind": "changes"} | asdict(self) | {"folder": str(self.folder), "steps": steps})


def state(found: Found, ends: Comparison, confirm: Sequence[Comparison]) -> tuple[str, str]:
    """The answer and what to do next, in sentences."""
    if found.ends != "apart":
        return nothing(found.ends, ends)
    if not found.bringing:
        return (
            f"Bad collapses and good does not ({_values(ends)}), but the budget ended before a smaller set of changes "
            "was shown to bring it.",
            "Give a larger budget; the runs made so far are kept.",
        )
    effects = {c.arm: c for c in confirm}
    bringing = {arm_name("good +", c.changes) for c in found.bringing}
    one, several = "{} brings the collapse", "Each of these alone brings the collapse"
    parts = [_sentence(one, several, found.bringing, "good +", effects)]
    if found.curing:
        one, several = "Reversing {} cures it", "Reversing any one of these cures it"
        parts.append(_sentence(one, several, found.curing, "bad -", effects))
    # Bringing sets make good worse; every other arm takes something away.
    unsure = [c for c in confirm if c.verdict != ("worse" if c.arm in bringing else "better")]
    for why, arms in (
        ("Not confirmed on fresh seeds", [c.arm for c in unsure if not math.isnan(c.effect)]),
        ("Without an effect, for the metric is not finite", [c.arm for c in unsure if math.isnan(c.effect)]),
    ):
        parts += [f"{why}: {'; '.join(arms)}."] if arms else []
    if found.exonerated:
        parts.append(f"Innocent, even all together: {', '.join(found.exonerated)}.")
    parts += found.open
    reverse = f"Reverse {_name(found.curing[0].changes)}." if found.curing else ""
    return " ".join(parts), "Give a larger budget; the runs made so far are kept." if found.open else reverse


def arm_name(side: str, changes: Sequence[str], without: str = "") -> str:
    """Name of an arm of the confirming round: `good + a + b`, `bad - a`, `good + a + b, without a`."""
    sign = side[-1]
    return f"{side} {f' {sign} '.join(changes)}" + (f", without {without}" if without else "")


def nothing(kind: Ends, ends: Comparison) -> tuple[str, str]:
    """Why there was nothing to search, and what to do, for end points that are not apart."""
    seen = _values(ends)
    differences = finite_differences(ends.control, ends.treated)
    needed = seeds_needed(differences, margin=ends.margin, confidence=ends.confidence)
    sentences = {
        "no difference": (
            f"Nothing to find: bad and good do not differ by more than the margin, {seen}.",
            "If bad looks collapsed to you, good is as well by this metric; give another good, or another metric.",
        ),
        "bad is better": (f"Bad is better than good: {seen}.", "Exchange the two, or give another metric."),
        "inconclusive": (
            f"Good and bad cannot be told apart by more than the margin: {seen}. A search would accuse at random.",
            f"About {needed} seeds of each may settle it. Or train longer, or choose a metric with less noise."
            if needed and needed > len(ends.seeds)
            else "Train longer, or choose a metric that the collapse moves further.",
        ),
        "bad does not collapse": (
            f"Nothing collapses: bad is worse on average, {seen}, but too few of its runs are beyond the cut.",
            "Make bad worse, or the run longer.",
        ),
        "good collapses": (
            f"Good collapses as well: {seen}, and too many of its runs are beyond the cut.",
            "Give a good one that works.",
        ),
        "unresolved": (
            f"The end points differ, {seen}, but how often each of them collapses was not settled.",
            "Give a larger budget, or a metric with less noise.",
        ),
    }
    return sentences[kind]


def _sentence(
    one: str, several: str, culprits: Sequence[Culprits], side: str, effects: Mapping[str, Comparison]
) -> str:
    def told(c: Culprits) -> tuple[str, str]:
        return _name(c.changes) + ("" if c.minimal else " (or a part of it)"), effect_of(
            effects.get(arm_name(side, c.changes))
        )

    if len(culprits) == 1:
        name, effect = told(culprits[0])
        return f"{one.format(name)}{effect}."
    return f"{several}: {'; '.join(name + effect for name, effect in map(told, culprits))}."


def _name(changes: Sequence[str]) -> str:
    together = " together with ".join(f"`{name}`" for name in changes[:6])
    return together + (f" and {len(changes) - 6} more" if len(changes) > 6 else "")


def effect_of(c: Comparison | None) -> str:
    """The effect on fresh seeds in brackets; empty where there is none."""
    if c is None or math.isnan(c.effect):
        return ""
    return (
        f" ({c.metric} {c.effect:+.3g}, {100 * c.confidence:.3g} % interval {c.low:+.3g} to {c.high:+.3g}, "
        f"{len(c.seeds)} fresh seeds)"
    )


def _values(ends: Comparison) -> str:
    def mean(values: Sequence[float]) -> float:
        finite = [value for value in values if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else math.nan

    return (
        f"{ends.metric} {mean(ends.control):.3g} in good and {mean(ends.treated):.3g} in bad, a difference of "
        f"{ends.effect:+.3g} ({100 * ends.confidence:.3g} % interval {ends.low:+.3g} to {ends.high:+.3g}) over "
        f"{len(ends.seeds)} seeds"
    )


def to_json(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return to_json_number(value) if isinstance(value, float) else value
