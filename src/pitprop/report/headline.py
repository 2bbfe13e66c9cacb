"""From findings and trials to the first screen: what happened, why, what fixes it, how sure.

Every sentence here is put together from numbers that stand in the report; nothing is measured and nothing is guessed.
"""

import re
import statistics
from collections.abc import Sequence

from pitprop.records import RUN, Comparison, Finding
from pitprop.report.value import Diagnosis, Headline, Tone
from pitprop.report.wording import percent, sentence, show, span

UNTESTED = (
    "Not tested: a trace shows symptoms, a trial finds the cause. Run `pitprop diagnose` on a recipe of this run."
)


def headline(
    findings: Sequence[Finding], diagnosis: Diagnosis | None, last_step: int | None, too_few: str = ""
) -> Headline:
    """The first screen for `findings` (gravest first) and, where there is one, a diagnosis.

    `too_few` is what to say in place of an all-clear where too little was measured for one.
    """
    if diagnosis is not None and last_step is None:
        return _tried(diagnosis)
    if diagnosis is not None:
        return _diagnosed(findings, diagnosis)
    if last_step is None:
        return Headline(tone="warning", statement="The trace is empty: nothing was measured.", sure=UNTESTED)
    steps = "1 step" if last_step == 0 else f"{last_step + 1} steps"
    if not findings and too_few:
        return Headline(tone="warning", statement=too_few)
    if not findings:
        return Headline(tone="clear", statement=f"Nothing was found in {steps}.")
    first = findings[0]
    modes = len({finding.rule for finding in findings})
    found = "One failure mode was" if modes == 1 else f"{modes} failure modes were"
    where = "" if first.site == RUN else f" at {first.site}"
    gravest = f"{first.rule}{where}, from step {first.onset}"
    return Headline(
        tone=_tone(findings),
        statement=f"{found} found in {steps}{':' if modes == 1 else '; the gravest is'} {gravest}.",
        happened=sentence(first.message),
        why=UNTESTED,
        fixes=f"Worth a trial: {', '.join(first.remedies)}." if first.remedies else "",
    )


def remedy_trial(diagnosis: Diagnosis) -> Comparison | None:
    """The comparison that speaks for the remedy (named by its arm or its change): a confirming one, an arm's own."""
    remedy = diagnosis.conclusion.remedy
    own = [trial for trial in diagnosis.trials if remedy in (trial.comparison.arm, trial.comparison.changes)]
    own.sort(key=lambda trial: (trial.round != "confirm", trial.round == "factors"))
    return own[0].comparison if own else None


def effect(comparison: Comparison) -> str:
    """The paired effect in one sentence, with everything that is needed to doubt it."""
    c, num = comparison, len(comparison.seeds)
    least = f", the least that {num} seeds can give" if num and c.p_value <= 2 / 2**num else ""
    return (
        f"{c.metric} {show(mean(c.control))} → {show(mean(c.treated))}: effect {show(c.effect, sign=True)}, "
        f"{percent(c.confidence)} interval {span(c.low, c.high)}, {num} {'seed' if num == 1 else 'seeds'}, "
        f"sign-flip p = {show(c.p_value)}{least}; margin {show(c.margin)}."
    )


def mean(values: Sequence[float]) -> float:
    """Mean; of nothing it is NaN."""
    return statistics.fmean(values) if values else float("nan")


def _diagnosed(findings: Sequence[Finding], diagnosis: Diagnosis) -> Headline:
    conclusion, trial = diagnosis.conclusion, remedy_trial(diagnosis)
    if not diagnosis.plan:  # nothing collapsed, so nothing was tried
        return Headline(tone=_tone(findings), statement=conclusion.statement)
    if conclusion.cause and conclusion.remedy:
        statement = f"{sentence(conclusion.cause)} causes the collapse; {conclusion.remedy} helps."
    else:
        statement = re.split(r"(?<=[.!?])\s", conclusion.statement, maxsplit=1)[0]
    fixes = conclusion.remedy or _no_fix(diagnosis)
    if trial and trial.changes != conclusion.remedy:
        fixes = f"{fixes}: {trial.changes}"
    return Headline(
        tone=_tone(findings),
        statement=statement,
        happened=sentence(findings[0].message) if findings else "No rule speaks about this run.",
        why=sentence(conclusion.cause or "not established.")
        + (f", by way of {conclusion.mechanism}" if conclusion.mechanism else ""),
        fixes=fixes,
        sure=effect(trial) if trial else conclusion.next,
    )


def _tried(diagnosis: Diagnosis) -> Headline:
    """A trial by itself: nobody watched a run, so there is nothing that happened and no cause."""
    conclusion, trial = diagnosis.conclusion, remedy_trial(diagnosis)
    return Headline(
        tone="clear" if trial else "warning",
        statement=re.split(r"(?<=[.!?])\s", conclusion.statement, maxsplit=1)[0],
        fixes=trial.changes if trial else _no_fix(diagnosis),
        sure=effect(trial) if trial else conclusion.next,
    )


def _no_fix(diagnosis: Diagnosis) -> str:
    """What is known of a fix where none was confirmed; an inconclusive arm may be one."""
    last = {t.comparison.arm: t.comparison for t in diagnosis.trials if t.round != "factors"}
    still_open = sum(c.verdict == "inconclusive" for c in last.values())
    return "None shown to help" + (f"; {still_open} inconclusive." if still_open else ".")


def _tone(findings: Sequence[Finding]) -> Tone:
    severities = {finding.severity for finding in findings}
    return "failure" if "failure" in severities else "warning" if "warning" in severities else "clear"
