"""Everything in pitprop that has a name: one table behind `pitprop list`, `pitprop explain` and the documentation."""

import ast
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pitprop._errors import PitpropError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One named thing and its page."""

    kind: str
    """`rules`, `checks`, `indicators`, `remedies`, `interventions` or `cases`."""
    name: str
    """The name that commands and traces use."""
    summary: str
    """One sentence."""
    page: str
    """The whole page, Markdown."""
    facts: dict[str, str]
    """What `list` shows beside the summary, by column (an underscore there is a space)."""


def _first_sentence(text: str) -> str:
    lines = []
    for line in text.strip().splitlines():
        if not line.strip() or set(line.strip()) <= {"-", "=", "~"}:
            break
        lines.append(line.strip())
    return " ".join(lines).lstrip("# ")


def _module_docstring(module: str) -> str:
    """Docstring of a module without importing it: remedies and checks hold torch code."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def _rules() -> list[Entry]:
    from pitprop.rules import RULES, page
    from pitprop.rules._card import in_page, line

    return [
        Entry(
            kind="rules",
            name=rule.name,
            summary=_first_sentence(page(rule)),
            page=in_page(page(rule), rule.name),
            facts={"severity": rule.severity, "shelf": rule.shelf, "score_card": line(rule.name)},
        )
        for rule in RULES
    ]


def _checks() -> list[Entry]:
    from pitprop.checks import CHECKS

    pages = {check.name: _module_docstring(check.where) for check in CHECKS}
    return [
        Entry(kind="checks", name=name, summary=_first_sentence(page), page=page, facts={})
        for name, page in pages.items()
    ]


def _indicators() -> list[Entry]:
    from pitprop.indicators import INDICATORS

    return [
        Entry(
            kind="indicators",
            name=indicator.name,
            summary=_first_sentence(inspect.getdoc(indicator.function) or ""),
            page=f"{inspect.getdoc(indicator.function)}\n\nAt a healthy initialisation: {indicator.at_initialisation}",
            facts={"unit": indicator.unit, "range": f"[{indicator.low:g}, {indicator.high:g}]", "cost": indicator.cost},
        )
        for indicator in INDICATORS
    ]


def _remedies() -> list[Entry]:
    from pitprop.remedies import REMEDIES

    return [
        Entry(
            kind="remedies",
            name=remedy.name,
            summary=remedy.summary,
            page=f"{_module_docstring(remedy.where[0].partition(':')[0])}\n\nIn: {', '.join(remedy.where)}",
            facts={"framework": remedy.framework},
        )
        for remedy in REMEDIES
    ]


def _interventions() -> list[Entry]:
    from pitprop.trials.interventions import INTERVENTIONS

    return [
        Entry(
            kind="interventions",
            name=kind.__name__,
            summary=_first_sentence(inspect.getdoc(kind) or ""),
            page=inspect.getdoc(kind) or "",
            facts={},
        )
        for kind in INTERVENTIONS
    ]


def _cases() -> list[Entry]:
    from pitprop.cases import CASES

    return [
        Entry(
            kind="cases",
            name=case.name,
            summary=case.title,
            page=(Path(__file__).parent / "cases" / case.name / "README.md").read_text(encoding="utf-8"),
            facts={},
        )
        for case in CASES
    ]


KINDS: dict[str, Callable[[], list[Entry]]] = {
    "rules": _rules,
    "checks": _checks,
    "indicators": _indicators,
    "remedies": _remedies,
    "interventions": _interventions,
    "cases": _cases,
}


def entries(kind: str) -> list[Entry]:
    """All entries of one kind, in the order of their registry."""
    return KINDS[kind]()


def find(name: str) -> Entry:
    """The entry called `name`, whatever its kind.

    Raises:
        PitpropError: Nothing has that name; the nearest names are given.
    """
    known: dict[str, Entry] = {}
    for kind in KINDS:
        for entry in entries(kind):
            if entry.name == name:
                return entry
            known.setdefault(entry.name, entry)
    raise PitpropError(f"there is nothing called `{name}`", do=nearest(name, known), read="pitprop list rules")
