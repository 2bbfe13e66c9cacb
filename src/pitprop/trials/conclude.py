"""What may be said after the confirming round: the cause, the remedy, who is exonerated, what would settle the rest.

Pure: comparisons in, sentences out. "Cause" means here that taking this one thing away, and nothing else, on seeds that
did not choose it, made the run better by more than the margin; see docs/verdicts.md for what it does not mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pitprop.records import RUN, Comparison, Finding
from pitprop.trials.comparison import seeds_needed
from pitprop.trials.interventions import Knob
from pitprop.trials.judge import finite_differences, gain
from pitprop.trials.plan import Arm, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The answer of a diagnosis, in plain language."""

    statement: str
    """Two to four sentences with effect, interval and seeds."""
    cause: str | None
    """What was taken away when the run got better; None when nothing was confirmed."""
    remedy: str | None
    """The change that was confirmed to help most; None when nothing was confirmed."""
    exonerated: tuple[str, ...]
    """Arms that made no difference within the margin, or made it worse."""
    next: str
    """What to do now, or what would settle it."""


def winners(screen: Sequence[Comparison], plan: Plan) -> list[str]:
    """Arms that go into the confirming round: better by more than the margin, best first, at most `confirm_arms`."""
    better = [c for c in screen if gain(c) > plan.margin]
    return [c.arm for c in sorted(better, key=gain, reverse=True)[: plan.confirm_arms]]


def nothing_collapsed(findings: Sequence[Finding], metric: str, start: float, end: float) -> Conclusion:
    """The conclusion when the control run shows no failure."""
    seen = f"{len(findings)} weaker finding(s) are in the report" if findings else "there is no finding at all"
    return Conclusion(
        statement=f"Nothing collapsed: the watched run shows no failure, {seen}, and {metric} went from {start:.4g} "
        f"to {end:.4g}. No trial was made.",
        cause=None,
        remedy=None,
        exonerated=(),
        next="If the run is bad all the same, let `step` return `outputs` and `targets`: more rules can see it then.",
    )


def conclude(
    plan: Plan,
    screen: Sequence[Comparison],
    confirm: Sequence[Comparison],
    findings: Sequence[Finding],
    failing: Sequence[Finding],
    remaining: Mapping[str, Sequence[Finding]],
) -> Conclusion:
    """The conclusion of a trial.

    Args:
        plan: What was planned.
        screen, confirm: Comparisons of the two rounds.
        findings: All findings of the control run.
        failing: Its failures, the earliest first.
        remaining: Failure findings of a watched run of each arm that was confirmed, by arm.
    """
    confirmed = sorted((c for c in confirm if c.verdict == "better"), key=gain, reverse=True)
    cured = [c for c in confirmed if not remaining[c.arm]]
    exonerated = exonerated_by(screen, confirm)
    innocent = f" Not the cause by itself: {', '.join(exonerated)}." if exonerated else ""
    if not confirmed:
        return _nothing_confirmed(plan, screen, confirm, failing, exonerated, innocent)
    # A change that also removes the finding beats one that only moves the metric further.
    best, *others = cured or confirmed
    measured = (
        f"with {best.changes}, {plan.metric} goes from {finite_mean(best.control):.3g} to "
        f"{finite_mean(best.treated):.3g}, a difference of {effect_text(best)} over {len(best.seeds)} fresh seeds"
    )
    arms = {arm.name: arm for arm in plan.arms}
    acts, how = _mechanism(cured, arms, findings)
    others = [c.arm for c in others if c.arm != acts]
    alike = how + (f" Confirmed as well, each by itself: {', '.join(others)}." if others else "")
    if not cured:
        return Conclusion(
            statement=f"The best change found helps without removing the collapse ({failure_text(failing)}): "
            f"{measured}, but a watched run with it still shows the failure.{alike}{innocent}",
            cause=None,
            remedy=best.changes,
            exonerated=exonerated,
            next=f"Keep {best.changes}, and diagnose the recipe again with it: something else holds the collapse up.",
        )
    cause = blame(arms[best.arm], plan.knobs)
    return Conclusion(
        statement=f"{_capital(cause)} causes the collapse ({failure_text(failing)}): {measured}. A watched run "
        f"with that change no longer shows the failure.{alike}{innocent}",
        cause=cause,
        remedy=best.changes,
        exonerated=exonerated,
        next=f"Train with {best.changes}.",
    )


def _mechanism(cured: Sequence[Comparison], arms: Mapping[str, Arm], findings: Sequence[Finding]) -> tuple[str, str]:
    """The first arm that cures by taking away only what a finding describes, at its site, and the sentence about it."""
    for c in cured:
        for change in arms[c.arm].interventions:
            for finding in findings:
                if getattr(change, "path", None) == finding.site:
                    return c.arm, (
                        f" How it acts is in the trace: {finding.rule} at {finding.site} from step {finding.onset}; "
                        f"taking away only that ({c.changes}) cures as well, {effect_text(c)}."
                    )
    return "", ""


def blame(arm: Arm, knobs: Mapping[str, Any]) -> str:
    """What an arm took away, as a noun phrase."""
    parts = [
        f"the knob `{i.name}` = {knobs.get(i.name)!r}" if isinstance(i, Knob) else i.blames() for i in arm.interventions
    ]
    return " together with ".join(parts)


def _nothing_confirmed(
    plan: Plan,
    screen: Sequence[Comparison],
    confirm: Sequence[Comparison],
    failing: Sequence[Finding],
    exonerated: tuple[str, ...],
    innocent: str,
) -> Conclusion:
    last = {c.arm: c for c in (*screen, *confirm)}
    seeds = {c.arm: _needed(c) for c in last.values() if c.verdict == "inconclusive"}
    settle = [f"{arm} (about {n} seeds)" for arm, n in seeds.items() if n is not None][:3]
    tried = "; ".join(f"{c.arm}: {effect_text(c)}, {c.verdict}" for c in confirm)
    return Conclusion(
        statement=f"Inconclusive: the run collapses ({failure_text(failing)}), and none of the {len(plan.arms)} "
        f"changes that were tried is confirmed to prevent it.{f' On fresh seeds, {tried}.' if tried else ''}{innocent}",
        cause=None,
        remedy=None,
        exonerated=exonerated,
        next=(f"More seeds would settle: {', '.join(settle)}. " if settle else "")
        + "Give suspects of your own (an intervention at a module path, another knob), or two changes at once.",
    )


def exonerated_by(screen: Sequence[Comparison], confirm: Sequence[Comparison]) -> tuple[str, ...]:
    """Arms whose last comparison says that they made no difference within the margin, or made it worse."""
    last = {c.arm: c for c in (*screen, *confirm)}
    return tuple(arm for arm, c in last.items() if c.verdict in ("no difference within margin", "worse"))


def _needed(c: Comparison) -> int | None:
    return seeds_needed(finite_differences(c.control, c.treated), margin=c.margin, confidence=c.confidence)


def failure_text(failing: Sequence[Finding]) -> str:
    """The first failure, its site and its onset."""
    first = failing[0]
    where = "" if first.site == RUN else f" at {first.site}"
    return f"{first.rule}{where} from step {first.onset}"


def effect_text(c: Comparison) -> str:
    """The effect with its interval."""
    if math.isnan(c.effect):
        return "no effect could be measured"
    return f"{c.effect:+.3g} ({100 * c.confidence:.3g} % interval {c.low:+.3g} to {c.high:+.3g})"


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
