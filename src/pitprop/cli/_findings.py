"""Findings as a person, a program, a code-scanning service or a GitHub workflow reads them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import Parameter

import pitprop
from pitprop.catalogue import Entry, entries
from pitprop.cli._app import FOUND, SEVERITIES
from pitprop.cli._say import escape, print_json, say
from pitprop.records import Finding, Severity
from pitprop.rules import Group, group

Format = Annotated[
    Literal["text", "json", "sarif", "github"],
    Parameter(help="text, json, sarif (2.1.0, for code scanning) or github (annotations of a workflow)."),
]
Place = tuple[Path, int | None]
"""A file and a line in it."""

SARIF_LEVEL = {"note": "note", "warning": "warning", "failure": "error"}
GITHUB_COMMAND = {"note": "notice", "warning": "warning", "failure": "error"}


def show(
    findings: Sequence[Finding],
    form: str,
    document: Mapping[str, Any],
    places: Mapping[str, Place],
    place: Place,
    *,
    grouped: bool = False,
    notes: Sequence[str] | None = None,
) -> None:
    """Print `findings`, the most severe first.

    Args:
        findings: What was found.
        form: One of `Format`.
        document: What the JSON document says beside the findings.
        places: Site -> where it lies in the user's source, as far as known.
        place: Where what was examined lies: for all other sites.
        grouped: Whether findings that came together (`rules/_group.py`) are one. JSON has them one by one as well.
        notes: What could not be seen; None where nobody keeps such notes.
    """
    ordered = sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), f.onset))
    groups = group(findings) if grouped else [Group((finding,)) for finding in ordered]
    if form == "json":
        kept: dict[str, Any] = {"groups": [one.facts() for one in groups]} if grouped else {}
        kept |= {} if notes is None else {"notes": list(notes)}
        print_json({**document, **kept, "findings": [dataclasses.asdict(finding) for finding in ordered]})
        return
    pages = {entry.name: entry for kind in ("checks", "rules") for entry in entries(kind)}
    if form == "sarif":
        print_json(_sarif(groups, lambda site: places.get(site, place), pages, notes))
        return
    for finding in map(_as_one, groups):
        if form == "github":
            print(_annotation(finding, places.get(finding.site, place)))
            continue
        since = f", onset {finding.onset}, detected {finding.detected}" if finding.detected else ""
        say(f"[bold]{finding.severity}[/bold] {finding.rule} at {escape(finding.site)}{since}")
        say(f"  {escape(finding.message)}")
        explain = f"explain: pitprop explain {finding.rule}; " if finding.rule in pages else ""
        say(f"  [dim]{explain}allow: --allow {finding.rule}[/dim]")
    for note in notes or ():
        if form == "github":
            print(f"::notice title=pitprop::{_escaped(note)}")
        else:
            say(escape(note))


def _as_one(one: Group) -> Finding:
    """The group's gravest finding, which tells of the other sites."""
    if one.num_sites == 1:
        return one.lead
    return dataclasses.replace(one.lead, message=f"{one.lead.message} In all {one.summary}.")


def exit_code(findings: Sequence[Finding], fail_on: Severity) -> int:
    """1 where a finding is at least as severe as `fail_on`."""
    return FOUND if any(SEVERITIES.index(f.severity) >= SEVERITIES.index(fail_on) for f in findings) else 0


def _sarif(
    groups: Sequence[Group], place_of: Callable[[str], Place], pages: Mapping[str, Entry], notes: Sequence[str] | None
) -> dict[str, Any]:
    """A SARIF 2.1.0 log of one run: a result for each group, at its gravest finding, with the other sites related."""
    names = list(dict.fromkeys(one.rule for one in groups))
    rules = [
        {
            "id": name,
            "shortDescription": {"text": pages[name].summary},
            "help": {"text": pages[name].page, "markdown": pages[name].page},
        }
        if name in pages
        else {"id": name}
        for name in names
    ]
    results = []
    for one in groups:
        finding = _as_one(one)
        others = {other.site: other for other in reversed(one.findings) if other.site != finding.site}
        related = [
            _location(other.site, place_of(other.site)) | {"message": {"text": f"onset {other.onset}"}}
            for other in reversed(others.values())
        ]
        result = {
            "ruleId": finding.rule,
            "ruleIndex": names.index(finding.rule),
            "level": SARIF_LEVEL[finding.severity],
            "message": {"text": finding.message},
            "locations": [_location(finding.site, place_of(finding.site))],
            "partialFingerprints": {"ruleAtSite/v1": f"{finding.rule}@{finding.site}"},
            "properties": {"evidence": dict(finding.evidence), "remedies": list(finding.remedies)},
        }
        results.append(result | ({"relatedLocations": related} if related else {}))
    driver = {"name": "pitprop", "version": pitprop.__version__, "rules": rules}
    told = [{"level": "note", "message": {"text": note}} for note in notes or ()]
    invocation = {"executionSuccessful": True, "toolExecutionNotifications": told}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "invocations": [invocation], "results": results}],
    }


def _location(site: str, place: Place) -> dict[str, Any]:
    file, line = place
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(file)},
            **({"region": {"startLine": line}} if line else {}),
        },
        "logicalLocations": [{"fullyQualifiedName": site, "kind": "module"}],
    }


def _uri(file: Path) -> str:
    """Relative to the working folder where it lies below it, as code scanning wants it."""
    file = file.resolve()
    return quote(file.relative_to(Path.cwd()).as_posix()) if file.is_relative_to(Path.cwd()) else file.as_uri()


def _annotation(finding: Finding, place: Place) -> str:
    """A workflow command; the escapes are GitHub's own."""
    file, line = place
    file = file.resolve()
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    properties = {"file": str(shown), **({"line": line} if line else {}), "title": f"{finding.rule} at {finding.site}"}
    told = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in properties.items())
    return f"::{GITHUB_COMMAND[finding.severity]} {told}::{_escaped(finding.message)}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
