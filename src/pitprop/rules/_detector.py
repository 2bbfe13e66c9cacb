"""The fold of rules over rows: one state per rule and site, live and in replay."""

from collections.abc import Iterable
from typing import Any

from pitprop.records import Finding, Row
from pitprop.rules._allow import INTERNAL, is_allowed, read_allow
from pitprop.rules._group import GRAVITY
from pitprop.rules._many import Selection
from pitprop.rules._rule import Rule


class Detector:
    """Folds rules over rows and hands out each finding once.

    A rule speaks once per site, and again only where it has something graver to say: a note must not silence the
    failure that follows. What rests on chance needs the more evidence the more sites the rule looks at (`_many.py`). A
    rule that raises costs nobody a training: it becomes one finding of `pitprop-internal`, and isn't asked at that site
    any more.

    Args:
        rules: Rules to apply, by default all; their order is the order of findings within a row.
        allow: What not to report: `"rule"`, or `"rule@site"` for one site only.

    Raises:
        PitpropError: `allow` names no rule.
    """

    def __init__(self, rules: Iterable[Rule] | None = None, allow: Iterable[str] = ()):
        from pitprop.rules import RULES  # the registry imports this module

        self._rules = RULES if rules is None else tuple(rules)
        # Any registered rule may be allowed, also where only some are applied.
        self._allow = read_allow(allow, (rule.name for rule in (*RULES, *self._rules)))
        self._states: dict[tuple[int, str], Any] = {}
        self._said: dict[tuple[int, str], int] = {}  # how grave, by place in GRAVITY
        self._selections = [Selection() for _ in self._rules]
        self._asked: dict[tuple[str, ...], list[int]] = {}

    def update(self, row: Row) -> list[Finding]:
        """Findings that `row` settles. Rows of a site must come in step order."""
        findings = []
        for number in self._readers(tuple(row.values)):
            rule, key = self._rules[number], (number, row.site)
            said = self._said.get(key, len(GRAVITY))
            if said <= _gravest(rule):
                continue
            selection = self._selections[number]
            try:
                if key not in self._states:
                    self._states[key] = rule.init()
                    selection.num_sites += 1
                self._states[key], finding = rule.update(self._states[key], row)
            except Exception as error:  # a user's training goes on, whatever a rule does
                finding = _about_us(rule, row, error)
            about_us = finding is not None and finding.rule == INTERNAL
            if finding is not None and not about_us and GRAVITY.index(finding.severity) >= said:
                finding = None
            for certain in selection.judge(row.site, finding):
                self._said[number, certain.site] = 0 if about_us else GRAVITY.index(certain.severity)
                if self._said[number, certain.site] <= _gravest(rule):
                    self._states.pop((number, certain.site), None)
                if not is_allowed(certain, self._allow):
                    findings.append(certain)
        return findings

    def _readers(self, names: tuple[str, ...]) -> list[int]:
        """Numbers of the rules that read one of `names`; rows of a site name the same things over and over."""
        if names not in self._asked:
            rules = enumerate(self._rules)
            self._asked[names] = [number for number, rule in rules if not set(names).isdisjoint(rule.reads)]
        return self._asked[names]


def _gravest(rule: Rule) -> int:
    return GRAVITY.index(rule.severity)


def _about_us(rule: Rule, row: Row, error: Exception) -> Finding:
    return Finding(
        rule=INTERNAL,
        severity="warning",
        site=row.site,
        onset=row.step,
        detected=row.step,
        message=f"rule {rule.name} raised {type(error).__name__}: {error} at {row.site} in step {row.step}; "
        "it is switched off there, and the run is not affected.",
    )
