"""What may be said after a rescue. Pure: comparisons in, sentences out."""

from collections.abc import Mapping, Sequence
from typing import Any

from pitprop.records import Comparison, Finding
from pitprop.trials.conclude import Conclusion, effect_text, failure_text, finite_mean
from pitprop.trials.judge import saved
from pitprop.trials.rescue_arms import ROLLED_BACK


def nothing_to_rescue(findings: Sequence[Finding], thin: str = "") -> Conclusion:
    """The conclusion where no failure is seen; `thin` says why that means little, where it does."""
    if thin:
        return Conclusion(
            statement=f"{thin} No failure was seen in that, so there is nothing to rescue from. No trial was made.",
            cause=None,
            remedy=None,
            exonerated=(),
            next="Watch the run again with `every=1`, or with `budget=None` so that no step is left out.",
        )
    seen = f"{len(findings)} weaker finding(s)" if findings else "no finding at all"
    return Conclusion(
        statement=f"Nothing to rescue: there is no failure, {seen}. No trial was made.",
        cause=None,
        remedy=None,
        exonerated=(),
        next="If it is bad all the same, let `step` return `outputs` and `targets`: more rules can see it then.",
    )


def rescued(
    best: Comparison,
    screen: Sequence[Comparison],
    confirm: Sequence[Comparison],
    failing: Sequence[Finding],
    remaining: Mapping[str, Sequence[Finding]],
    inert: tuple[str, ...],
) -> Conclusion:
    """The conclusion where `best` was confirmed.

    Args:
        best: The arm whose state was written.
        screen, confirm: Comparisons of the two rounds.
        failing: Failures of the collapsed run, the earliest first.
        remaining: Failures in the second half of a watched run of each confirmed arm.
        inert: Arms that did nothing.
    """
    left = remaining[best.arm]
    end = (
        f"A watched run still shows {failure_text(left)} in its second half: better, but not healthy."
        if left
        else "A watched run shows no failure in its second half."
    )
    others = [c.arm for c in confirm if c.arm in remaining and c.arm != best.arm]
    also = f" Confirmed as well: {'; '.join(others)}." if others else ""
    return Conclusion(
        statement=f"{'Improved' if left else 'Rescued'} ({failure_text(failing)}): {best.changes}. "
        f"{_measured(best)} over {len(best.seeds)} fresh seeds. {end}"
        f"{_roll_back(screen, confirm, best)}{also}{_idle(inert)}",
        cause=None,
        remedy=best.changes,
        **_lists(screen, confirm, inert),
        next="Load the new checkpoint, with the change that its README.txt names.",
    )


def nothing_confirmed(
    screen: Sequence[Comparison],
    confirm: Sequence[Comparison],
    failing: Sequence[Finding],
    inert: tuple[str, ...],
) -> Conclusion:
    """The conclusion where no arm was confirmed."""
    tried = "; ".join(f"{c.arm}: {effect_text(c)}, {c.verdict}" for c in confirm)
    return Conclusion(
        statement=f"Not rescued ({failure_text(failing)}): none of {len(screen)} ways is confirmed to do better than "
        f"going on as it is.{f' On fresh seeds, {tried}.' if tried else ''}{_roll_back(screen, confirm, None)}"
        f"{_idle(inert)}",
        cause=None,
        remedy=None,
        **_lists(screen, confirm, inert),
        next="Find the cause with `pitprop diagnose`, or give suspects of your own (`pitprop.rescue(suspects=...)`).",
    )


def _measured(best: Comparison) -> str:
    """The metric with the change, against going on as it is."""
    if saved(best) > 0:
        return f"{best.metric} is {effect_text(best)} (which goes on as it is),"
    return (
        f"{best.metric} goes to {finite_mean(best.treated):.3g} in place of {finite_mean(best.control):.3g} when it "
        f"goes on as it is, a difference of {effect_text(best)}"
    )


def _lists(screen: Sequence[Comparison], confirm: Sequence[Comparison], inert: tuple[str, ...]) -> dict[str, Any]:
    """Arms that made no difference, that made it worse, and that did nothing, by their last comparison."""
    last = {c.arm: c.verdict for c in (*screen, *confirm) if c.arm not in inert}

    def named(verdict: str) -> tuple[str, ...]:
        return tuple(arm for arm, said in last.items() if said == verdict)

    return {"exonerated": named("no difference within margin"), "worse": named("worse"), "inert": inert}


def _idle(inert: Sequence[str]) -> str:
    return f" Without effect at all, so not tested: {', '.join(inert)}." if inert else ""


def _roll_back(screen: Sequence[Comparison], confirm: Sequence[Comparison], best: Comparison | None) -> str:
    """What rolling back alone does: the first thing that anybody would try."""
    alone = {c.arm: c for c in (*screen, *confirm)}.get(ROLLED_BACK)
    if alone is None or alone is best:
        return ""
    return f" Rolling back alone: {effect_text(alone)}, {alone.verdict}."
