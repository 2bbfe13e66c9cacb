"""What may be said after a rescue. Pure: comparisons in, sentences out."""

from collections.abc import Mapping, Sequence

from pitprop.records import Comparison, Finding
from pitprop.trials.conclude import Conclusion, effect_text, exonerated_by, failure_text, finite_mean
from pitprop.trials.rescue_arms import ROLLED_BACK


def nothing_to_rescue(findings: Sequence[Finding]) -> Conclusion:
    """The conclusion where no failure is seen."""
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
) -> Conclusion:
    """The conclusion where `best` was confirmed.

    Args:
        best: The arm whose state was written.
        screen, confirm: Comparisons of the two rounds.
        failing: Failures of the collapsed run, the earliest first.
        remaining: Failures in the second half of a watched run of each confirmed arm.
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
        statement=f"{'Improved' if left else 'Rescued'} ({failure_text(failing)}): {best.changes}. {best.metric} goes "
        f"to {finite_mean(best.treated):.3g} in place of {finite_mean(best.control):.3g} when it goes on as it is, a "
        f"difference of {effect_text(best)} over {len(best.seeds)} fresh seeds. {end}"
        f"{_roll_back(screen, confirm, best)}{also}",
        cause=None,
        remedy=best.changes,
        exonerated=exonerated_by(screen, confirm),
        next="Load the new checkpoint, with the change that its README.txt names.",
    )


def nothing_confirmed(
    screen: Sequence[Comparison], confirm: Sequence[Comparison], failing: Sequence[Finding]
) -> Conclusion:
    """The conclusion where no arm was confirmed."""
    tried = "; ".join(f"{c.arm}: {effect_text(c)}, {c.verdict}" for c in confirm)
    return Conclusion(
        statement=f"Not rescued ({failure_text(failing)}): none of {len(screen)} ways is confirmed to do better than "
        f"going on as it is.{f' On fresh seeds, {tried}.' if tried else ''}{_roll_back(screen, confirm, None)}",
        cause=None,
        remedy=None,
        exonerated=exonerated_by(screen, confirm),
        next="Find the cause with `pitprop diagnose`, or give suspects of your own (`pitprop.rescue(suspects=...)`).",
    )


def _roll_back(screen: Sequence[Comparison], confirm: Sequence[Comparison], best: Comparison | None) -> str:
    """What rolling back alone does: the first thing that anybody would try."""
    alone = {c.arm: c for c in (*screen, *confirm)}.get(ROLLED_BACK)
    if alone is None or alone is best:
        return ""
    return f" Rolling back alone: {effect_text(alone)}, {alone.verdict}."
