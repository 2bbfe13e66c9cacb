"""What a trial of one round allows to be said, in words; pure, comparisons in, sentences out.

A plain trial names no cause: nobody watched the run, and no fresh seeds confirmed the best arm. Its intervals hold for
all arms together and all looks at them, so its verdicts may be read as they stand.
"""

import math
from collections.abc import Sequence

from pitprop.records import Comparison
from pitprop.report.wording import effect_words, percent, sentence, show, span
from pitprop.trials.conclude import Conclusion
from pitprop.trials.designs import Factorial
from pitprop.trials.guards import Guard
from pitprop.trials.judge import gain
from pitprop.trials.looks import ALPHA, share
from pitprop.trials.plan import Plan
from pitprop.trials.survival import survival


def summarise(
    plan: Plan,
    comparisons: Sequence[Comparison],
    effects: Sequence[Comparison],
    design: Factorial | None,
    guards: Sequence[Guard] = (),
    inert: tuple[str, ...] = (),
) -> Conclusion:
    """The conclusion of a trial.

    Args:
        plan: What was planned.
        comparisons: Each arm against the control.
        effects: Main effects and interactions, of a factorial.
        design: The factorial, if it was one.
        guards: What each arm does to the other metrics.
        inert: Arms that never acted, so that nothing is known of them.
    """
    better = sorted((c for c in comparisons if c.verdict == "better"), key=gain, reverse=True)
    over = f"over {len(plan.seeds)} seeds and {plan.horizon} steps"
    kind = "arm" if design is None else "combination"
    count = f"{len(comparisons)} {kind}{'' if len(comparisons) == 1 else 's'}"
    if better:
        best = better[0]
        lead = f"{sentence(best.changes)} makes {plan.metric} better, {_effect(best)}, the best of {count} {over}."
    elif not comparisons:
        lead = f"No arm was tested {over}."
    elif design is None:
        lead = f"None of {count} is shown to make {plan.metric} better {over}."
    else:
        helps = sum(c.verdict == "better" for c in effects)
        shown = f"{helps or 'None'} of {len(effects)} effects {'is' if helps < 2 else 'are'} shown"
        lead = f"{shown} to make {plan.metric} better {over}."
    said = [lead]
    if plan.look > 1:
        level = percent(1 - ALPHA * share(plan.look))
        said.append(f"This is look {plan.look} at these arms, so its intervals hold together at {level}.")
    if design is None:
        said += (
            ["Chosen as the best on these seeds, so its effect is likely overstated."]
            if better and len(comparisons) > 1
            else []
        )
        said += _by_verdict(better[1:], comparisons)
    else:
        real = [c for c in effects if c.verdict in ("better", "worse")]
        listed = "; ".join(
            f"{c.changes} {_lives(c) if math.isnan(c.effect) else show(c.effect, sign=True)}" for c in real
        )
        said += [design.describe(), f"Effects that are not 0 (the table has their intervals): {listed or 'none'}."]
    harm = [
        f"{g.metric} "
        + (f"by {show(g.effect, sign=True)} {span(g.low, g.high)}" if g.moved else f"({_lives(g)})")
        + f" with {g.arm}"
        for g in guards
        if g.verdict == "worse"
    ]
    said += [f"Beside it gets worse: {'; '.join(harm)}."] if harm else []
    said += [f"Never acted, so not tested: {', '.join(inert)}."] if inert else []
    return Conclusion(
        statement=" ".join(said),
        cause=None,
        remedy=better[0].arm if better else None,
        exonerated=(),  # nobody was accused
        inert=inert,
        next=_next(plan, effects or comparisons),
    )


def _by_verdict(better: Sequence[Comparison], comparisons: Sequence[Comparison]) -> list[str]:
    groups = {
        "Better as well": better,
        "Worse": [c for c in comparisons if c.verdict == "worse"],
        "No difference within the margin": [c for c in comparisons if c.verdict == "no difference within margin"],
        "Inconclusive": [c for c in comparisons if c.verdict == "inconclusive"],
    }
    return [f"{word}: {'; '.join(f'{c.arm}, {_effect(c)}' for c in group)}." for word, group in groups.items() if group]


def _lives(c: Comparison | Guard) -> str:
    return survival(c.control, c.treated).words


def _next(plan: Plan, comparisons: Sequence[Comparison]) -> str:
    still_open = [c for c in comparisons if c.verdict == "inconclusive"]
    if not still_open:
        return ""
    settled = [f"{c.arm} (about {c.further_seeds} more)" for c in still_open if c.further_seeds is not None]
    never = [c.arm for c in still_open if c.further_seeds is None and not math.isnan(c.effect)]
    undefined = [c.arm for c in still_open if c.further_seeds is None and math.isnan(c.effect)]
    parts = [f"Further seeds may settle: {', '.join(settled)}."] if settled else []
    parts += [f"Not settled by 1000 seeds, were they like these: {', '.join(never)}."] if never else []
    if undefined:
        what = ", ".join(undefined)
        parts.append(f"Undefined, for fewer than two seeds have a number on both sides: {what}; see the failed runs.")
    return f"{' '.join(parts)} Runs that are there already are kept, and more seeds are look {plan.look + 1} at them."


def _effect(c: Comparison) -> str:
    stopped = "" if c.stopped_of is None else f", stopped after {len(c.seeds)} of {c.stopped_of} seeds"
    if math.isnan(c.effect):
        return effect_words(c) + stopped
    return f"{show(c.effect, sign=True)} ({percent(c.confidence)} interval {span(c.low, c.high)}{stopped})"
