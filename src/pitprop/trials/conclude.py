"""What may be said after the confirming round: the cause, the remedy, who is exonerated, what may settle the rest.

Pure: comparisons in, sentences out. "Cause" means here that taking this one thing away, and nothing else, on seeds that
did not choose it, made the run better by more than the margin; see docs/verdicts.md for what it does not mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pitprop.records import RUN, Comparison, Finding
from pitprop.trials.guards import Guard
from pitprop.trials.interventions import Knob
from pitprop.trials.judge import finite_differences, gain, rank, saved
from pitprop.trials.plan import Arm, Plan
from pitprop.trials.survival import survival
from pitprop.trials.symptoms import symptoms


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
    """Arms that made no difference within the margin in their last round; the intervals of a round hold together."""
    next: str
    """What to do now, or what may settle it."""
    mechanism: str | None = None
    """The finding through which the cause acts, where taking away only that cured as well."""
    worse: tuple[str, ...] = ()
    """Arms that made it worse."""
    inert: tuple[str, ...] = ()
    """Arms that did nothing at all, so that nothing is known of them."""
    symptoms: tuple[str, ...] = ()
    """Findings whose site was intervened on without any difference: they go along with the collapse."""


def winners(screen: Sequence[Comparison], plan: Plan) -> list[str]:
    """Arms that go into the confirming round, best first, at most `confirm_arms`.

    Those that save runs (a finite metric where the control has none), and those better by more than the margin that
    lose none by it.
    """
    better = [c for c in screen if saved(c) > 0 or (saved(c) == 0 and gain(c) > plan.margin)]
    return [c.arm for c in sorted(better, key=rank, reverse=True)[: plan.confirm_arms]]


def nothing_collapsed(findings: Sequence[Finding], metric: str, start: float, end: float, seeds: int) -> Conclusion:
    """The conclusion when the control run shows no failure at any of `seeds` seeds; the rest is of the first one."""
    seen = f"{len(findings)} weaker finding(s) are in the report" if findings else "there is no finding at all"
    return Conclusion(
        statement=f"Nothing collapsed: the watched run shows no failure ({_seeds(seeds)}), {seen}, and {metric} went "
        f"from {start:.4g} to {end:.4g}. No trial was made.",
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
    *,
    inert: tuple[str, ...] = (),
    guards: Sequence[Guard] = (),
    diverged: int | None = None,
) -> Conclusion:
    """The conclusion of a trial.

    Args:
        plan: What was planned.
        screen, confirm: Comparisons of the two rounds.
        findings: All findings of the control run.
        failing: Its failures, the earliest first.
        remaining: Failure findings of a watched run of each arm that was confirmed, by arm.
        inert: Arms that did nothing.
        guards: Effects of the confirmed arms on the other metrics.
        diverged: Earliest step at which the loss of a control run stops being finite, if any does.
    """
    confirmed = sorted((c for c in confirm if c.verdict == "better"), key=rank, reverse=True)
    cured = [c for c in confirmed if not remaining[c.arm]]
    last = [c for c in {c.arm: c for c in (*screen, *confirm)}.values() if c.arm not in inert]
    innocent, worse = ([c for c in last if c.verdict == v] for v in ("no difference within margin", "worse"))
    unmoved = [c for c in last if c.verdict == "inconclusive" and _unmoved(c)]
    rest = _list("Not the cause by itself", innocent) + _list("Made it worse", worse)
    rest += _list("Did not move the metric, at too few seeds to exonerate", unmoved)
    rest += f" Without effect at all, so not tested: {', '.join(inert)}." if inert else ""
    arms = {arm.name: arm for arm in plan.arms}
    going_along = symptoms(findings, arms, last)
    told = ", ".join(going_along)
    rest += f" A symptom, not a cause (intervening on it changes nothing): {told}." if told else ""
    lists: dict[str, Any] = {
        "symptoms": going_along,
        "exonerated": tuple(c.arm for c in innocent),
        "worse": tuple(c.arm for c in worse),
        "inert": inert,
    }
    if not confirmed:
        return _nothing_confirmed(plan, last, confirm, failing, lists, rest)
    # A change that also removes the finding beats one that only moves the metric further.
    best, *others = cured or confirmed
    measured = _measured(best, diverged)
    beside = _beside([g for g in guards if g.arm == best.arm])
    acts, mechanism, how = _mechanism(cured, arms, findings)
    others = [c.arm for c in others if c.arm != acts]
    alike = how + (f" Confirmed as well, each by itself: {', '.join(others)}." if others else "")
    if not cured:
        return Conclusion(
            statement=f"The best change found helps without removing the collapse ({failure_text(failing)}): "
            f"{measured}, but a watched run with it still shows the failure (1 seed).{beside}{alike}{rest}",
            cause=None,
            remedy=best.changes,
            **lists,
            next=f"Keep {best.changes}, and diagnose the recipe again with it: something else holds the collapse up.",
        )
    cause = blame(arms[best.arm], plan.knobs)
    return Conclusion(
        statement=f"{_capital(cause)} causes the collapse ({failure_text(failing)}): {measured}. A watched run with "
        f"that change no longer shows the failure (1 seed).{beside}{alike}{rest}",
        cause=cause,
        remedy=best.changes,
        **lists,
        next=f"Train with {best.changes}.",
        mechanism=mechanism,
    )


def _mechanism(
    cured: Sequence[Comparison], arms: Mapping[str, Arm], findings: Sequence[Finding]
) -> tuple[str, str | None, str]:
    """The first arm that cures by taking away only what a finding describes; the finding, and the sentence about it."""
    for c in cured:
        for change in arms[c.arm].interventions:
            for finding in findings:
                if getattr(change, "path", None) == finding.site:
                    mechanism = f"{finding.rule} at {finding.site} from step {finding.onset}"
                    sentence = (
                        f" How it acts is in the trace: {mechanism}; taking away only that ({c.changes}) cures as well"
                    )
                    return c.arm, mechanism, f"{sentence}, {effect_text(c)}."
    return "", None, ""


def blame(arm: Arm, knobs: Mapping[str, Any]) -> str:
    """What an arm took away, as a noun phrase."""
    parts = [
        f"the knob `{i.name}` = {knobs.get(i.name)!r}" if isinstance(i, Knob) else i.blames() for i in arm.interventions
    ]
    return " together with ".join(parts)


def _nothing_confirmed(
    plan: Plan,
    last: Sequence[Comparison],
    confirm: Sequence[Comparison],
    failing: Sequence[Finding],
    lists: Mapping[str, Any],
    rest: str,
) -> Conclusion:
    settle = [f"{c.arm} (about {c.further_seeds})" for c in last if c.further_seeds is not None]
    tried = "; ".join(f"{c.arm}: {effect_text(c)}, {c.verdict}" for c in confirm)
    return Conclusion(
        statement=f"Inconclusive: the run collapses ({failure_text(failing)}), and none of the {len(last)} changes "
        f"that were tried is confirmed to prevent it.{f' On fresh seeds, {tried}.' if tried else ''}{rest}",
        cause=None,
        remedy=None,
        **lists,
        next=(f"Further seeds may settle: {', '.join(settle)}. " if settle else "")
        + "Give suspects of your own (an intervention at a module path, another knob), or two changes at once.",
    )


def _measured(c: Comparison, diverged: int | None) -> str:
    """What was confirmed of an arm: runs saved, where it saves any, and the effect over the pairs."""
    alive = survival(c.control, c.treated)
    effect = f"a difference of {difference(c)} over {_seeds(len(finite_differences(c.control, c.treated)), 'fresh ')}"
    if alive.saved <= alive.lost:
        before, after = finite_mean(c.control), finite_mean(c.treated)
        return f"with {c.changes}, {c.metric} goes from {before:.3g} to {after:.3g}, {effect}"
    since = "" if diverged is None else f"; its loss stops being finite at step {diverged} at the earliest"
    return (
        f"with {c.changes}, {c.metric} is finite at {alive.treated} of {_seeds(alive.seeds, 'fresh ')}, the control at "
        f"{alive.control} of {alive.seeds} (exact one-sided test, p = {alive.p_saved:.2g}{since})"
        + ("" if math.isnan(c.effect) else f", with {effect}")
    )


def _beside(guards: Sequence[Guard]) -> str:
    """The side effects that are sure: numbers that are lost or saved, and at most three intervals that exclude 0.

    Those are the largest in relation to the control, the largest first.
    """

    def relative(g: Guard) -> float:
        control = abs(finite_mean(g.control))
        return abs(g.effect) / control if control else math.inf

    told = [g for g in guards if g.verdict != "inconclusive"]
    sure = sorted((g for g in told if g.moved), key=relative, reverse=True)[:3]
    parts = [f"by {g.effect:+.3g} ({g.low:+.3g} to {g.high:+.3g})" for g in sure]
    changes = ", ".join(
        f"{g.metric} {'changes ' * (not i)}{part}" for i, (g, part) in enumerate(zip(sure, parts, strict=True))
    )
    died = [g for g in told if not g.moved]
    lives = "; ".join(f"{g.metric} is {survival(g.control, g.treated).words}" for g in died)
    return (f" Beside it, {changes} ({100 * sure[0].confidence:.3g} % intervals)." if changes else "") + (
        f" Beside it, {lives}." if lives else ""
    )


def _list(what: str, comparisons: Sequence[Comparison]) -> str:
    """A sentence that lists arms with the seeds that speak for it."""
    by_seeds: dict[int, list[str]] = {}
    for c in comparisons:
        pairs = len(finite_differences(c.control, c.treated))
        by_seeds.setdefault(len(c.seeds) if c.verdict == "worse" else pairs, []).append(c.arm)
    told = "; ".join(f"{', '.join(arms)} ({_seeds(count)})" for count, arms in by_seeds.items())
    return f" {what}: {told}." if told else ""


def _unmoved(c: Comparison) -> bool:
    differences, alive = finite_differences(c.control, c.treated), survival(c.control, c.treated)
    return len(differences) > 0 and not differences.any() and alive.saved == alive.lost == 0


def _seeds(count: int, which: str = "") -> str:
    return f"{count} {which}seed{'s' * (count != 1)}"


def failure_text(failing: Sequence[Finding]) -> str:
    """The first failure, its site and its onset."""
    first = failing[0]
    where = "" if first.site == RUN else f" at {first.site}"
    return f"{first.rule}{where} from step {first.onset}"


def effect_text(c: Comparison) -> str:
    """Runs saved, where it saves any, else the effect with its interval."""
    if saved(c) > 0:
        return survival(c.control, c.treated).words
    return difference(c)


def difference(c: Comparison) -> str:
    """The effect with its interval."""
    if math.isnan(c.effect):
        return "no effect could be measured"
    if math.isnan(c.low):
        return f"{c.effect:+.3g} (interval undefined)"
    return f"{c.effect:+.3g} ({100 * c.confidence:.3g} % interval {c.low:+.3g} to {c.high:+.3g})"


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
