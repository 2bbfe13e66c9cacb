"""Findings of one rule that came in one wave, as one group with the order in which its sites were taken.

A rule speaks at each site by itself. Where it speaks at many within one wave, there is one thing to look at, and where
it began and which way it went say more than a hundred messages. A wave: no site began after all the sites before it
had been detected, so the spans from onset to detection overlap. That is no proof of a common cause; trials find causes.
"""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pitprop.records import Finding, Severity
from pitprop.rules._allow import INTERNAL

CLEAR = 0.8
"""Kendall's tau between depth and onset from which on an order is one. A convention: of ten pairs nine agree."""
FEWEST = 3
"""Depths that an order needs."""

GRAVITY: tuple[Severity, ...] = ("failure", "warning", "note")
"""Severities, the gravest first."""


@dataclass(frozen=True, slots=True)
class Group:
    """One wave of a rule's findings."""

    findings: tuple[Finding, ...]
    """One at each site, by onset, then by depth."""

    @property
    def rule(self) -> str:
        return self.findings[0].rule

    @property
    def lead(self) -> Finding:
        """The first of the gravest: what is said where there is room for one."""
        return min(self.findings, key=lambda finding: GRAVITY.index(finding.severity))

    @property
    def severity(self) -> Severity:
        """That of the gravest."""
        return self.lead.severity

    @property
    def num_sites(self) -> int:
        return len({finding.site for finding in self.findings})

    @property
    def order(self) -> str:
        """`upward` (towards the higher numbers in the sites' names, so towards the output), `downward`, `together`, or
        `in no clear order`; empty where there are fewer than three numbered depths.

        By Kendall's tau between the depths and the first onset at each, over the stack that most of the sites are in.
        It describes these onsets; it is no test.
        """
        stacks: dict[str, dict[int, int]] = {}
        for finding in self.findings:
            if number := re.search(r"(?<![^.])\d+(?![^.#])", finding.site):
                onsets = stacks.setdefault(finding.site[: number.start()], {})
                onsets.setdefault(int(number[0]), finding.onset)  # by onset, so this is the depth's first
        largest = max(stacks.values(), key=len, default={})
        if len(largest) < FEWEST:
            return ""
        onsets = [largest[depth] for depth in sorted(largest)]
        if len(set(onsets)) == 1:
            return "together"
        tau = _tau(onsets)
        return "upward" if tau >= CLEAR else "downward" if tau <= -CLEAR else "in no clear order"

    @property
    def summary(self) -> str:
        """How many sites, the first, and the order of the others; for one site its name."""
        first, last = self.findings[0], self.findings[-1]
        if self.num_sites == 1:
            return first.site
        if first.onset == last.onset:
            return f"{self.num_sites} sites, all from step {first.onset} on, {first.site} to {last.site}"
        onwards = f", then {self.order}" if self.order not in ("", "together") else ""
        return (
            f"{self.num_sites} sites, first at {first.site} (step {first.onset}){onwards}, "
            f"last at {last.site} (step {last.onset})"
        )

    def facts(self) -> dict[str, Any]:
        """What a program reads of it: rule, severity, sites by onset with their onsets, order."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "num_sites": self.num_sites,
            "order": self.order,
            "summary": self.summary,
            "sites": [{"site": finding.site, "onset": finding.onset} for finding in self.findings],
        }


class Groups:
    """Sorts findings into groups as they come; what comes out does not depend on when it is asked."""

    def __init__(self):
        self._waves: dict[str, list[list[Finding]]] = {}

    def add(self, finding: Finding) -> list[Finding]:
        """All findings so far of the wave that `finding` belongs to, in order of coming, itself the last.

        Findings must come in the order in which they were detected, as a `Detector` gives them.
        """
        waves = self._waves.setdefault(_cause(finding), [])
        wave: list[Finding] = []
        # Waves lie one after the other, and this finding ends last: it can only touch the end.
        while waves and waves[-1][-1].detected >= finding.onset:
            wave = waves.pop() + wave if wave else waves.pop()
        wave.append(finding)
        waves.append(wave)
        return wave

    def all(self) -> list[Group]:
        """The groups, the one with the gravest and then the earliest finding first."""
        groups = [Group(tuple(sorted(wave, key=_when))) for waves in self._waves.values() for wave in waves]
        return sorted(groups, key=lambda group: (GRAVITY.index(group.severity), group.lead.onset))


def group(findings: Iterable[Finding]) -> list[Group]:
    """`findings` of any order as groups, the one with the gravest and then the earliest finding first.

    >>> from pitprop.records import Finding
    >>> made = dict(rule="dead-gradient", severity="failure", message="no gradient")
    >>> found = [Finding(site=f"blocks.{i}.attn", onset=100 + 4 * i, detected=150, **made) for i in range(7, 12)]
    >>> [one.summary for one in group(found)]
    ['5 sites, first at blocks.7.attn (step 128), then upward, last at blocks.11.attn (step 144)']
    """
    groups = Groups()
    for finding in sorted(findings, key=lambda finding: finding.detected):
        groups.add(finding)
    return groups.all()


def _cause(finding: Finding) -> str:
    """What tells waves apart. Of findings about pitprop it is which part failed and how, up to the error's own text."""
    return f"{INTERNAL}:{finding.message.partition(':')[0]}" if finding.rule == INTERNAL else finding.rule


def _when(finding: Finding) -> tuple[int, list[tuple[int, str]]]:
    """Onset, then depth: numbers in names count as numbers."""
    parts = re.split(r"(\d+)", finding.site)
    return finding.onset, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _tau(values: list[int]) -> float:
    """Kendall's tau-a between `values` and their places: agreeing less opposing pairs, as a share of all pairs."""
    seen: list[int] = []
    balance = 0
    for value in values:
        balance += bisect_left(seen, value) - (len(seen) - bisect_right(seen, value))
        insort(seen, value)
    return 2 * balance / (len(values) * (len(values) - 1))
