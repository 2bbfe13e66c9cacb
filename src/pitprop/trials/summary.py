"""What a trial of one round allows to be said, in words; pure, comparisons in, sentences out.

A plain trial names no cause: nobody watched the run, and no fresh seeds confirmed the best arm. Its intervals hold for
all arms together (Holm), so its verdicts may be read as they stand.
"""

from collections.abc import Sequence

from pitprop.records import Comparison
from pitprop.report.wording import percent, sentence, show, span
from pitprop.trials.comparison import seeds_needed
from pitprop.trials.conclude import Conclusion
from pitprop.trials.designs import Factorial
from pitprop.trials.judge import finite_differences, gain
from pitprop.trials.plan import Plan


def summarise(
    plan: Plan, comparisons: Sequence[Comparison], effects: Sequence[Comparison], design: Factorial | None
) -> Conclusion:
    """The conclusion of a trial.

    Args:
        plan: What was planned.
        comparisons: Each arm against the control.
        effects: Main effects and interactions, of a factorial.
        design: The factorial, if it was one.
    """
    better = sorted((c for c in comparisons if c.verdict == "better"), key=gain, reverse=True)
    over = f"over {len(plan.seeds)} seeds and {plan.horizon} steps"
    count = f"{len(comparisons)} {'arm' if len(comparisons) == 1 else 'arms'}"
    if better:
        best = better[0]
        lead = f"{sentence(best.changes)} makes {plan.metric} better, {_effect(best)}, the best of {count} {over}."
    else:
        lead = f"None of {count} makes {plan.metric} better {over}."
    said = [lead]
    if design is None:
        said += _by_verdict(better[1:], comparisons)
    else:
        real = [c for c in effects if c.verdict in ("better", "worse")]
        listed = "; ".join(f"{c.changes} {show(c.effect, sign=True)}" for c in real) or "none"
        said += [design.describe(), f"Effects that are not 0 (the table has their intervals): {listed}."]
    return Conclusion(
        statement=" ".join(said),
        cause=None,
        remedy=better[0].arm if better else None,
        exonerated=tuple(c.arm for c in comparisons if c.verdict == "no difference within margin"),
        next=_next(plan, effects or comparisons),
    )


def further_seeds(comparison: Comparison) -> int | None:
    """Seeds beyond those it has that would settle an inconclusive comparison; None where 1000 would not."""
    differences = finite_differences(comparison.control, comparison.treated)
    needed = seeds_needed(differences, margin=comparison.margin, confidence=comparison.confidence)
    return None if needed is None else max(1, needed - len(differences))


def _by_verdict(better: Sequence[Comparison], comparisons: Sequence[Comparison]) -> list[str]:
    groups = {
        "Better as well": better,
        "Worse": [c for c in comparisons if c.verdict == "worse"],
        "No difference within the margin": [c for c in comparisons if c.verdict == "no difference within margin"],
        "Inconclusive": [c for c in comparisons if c.verdict == "inconclusive"],
    }
    return [f"{word}: {'; '.join(f'{c.arm}, {_effect(c)}' for c in group)}." for word, group in groups.items() if group]


def _next(plan: Plan, comparisons: Sequence[Comparison]) -> str:
    still_open = [c for c in comparisons if c.verdict == "inconclusive"]
    if not still_open:
        return ""
    seeds = [(c.arm, further_seeds(c)) for c in still_open]
    settled = [f"{arm} (about {more} more)" for arm, more in seeds if more is not None]
    never = [arm for arm, more in seeds if more is None]
    parts = [f"Further seeds would settle: {', '.join(settled)}."] if settled else []
    if never:
        parts.append(f"Not settled by 1000 seeds, or too few runs to tell: {', '.join(never)}.")
    return " ".join(parts) + f" Runs that are there already, {len(plan.seeds)} seeds of each arm, are kept."


def _effect(c: Comparison) -> str:
    return f"{show(c.effect, sign=True)} ({percent(c.confidence)} interval {span(c.low, c.high)})"
