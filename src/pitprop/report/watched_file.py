"""`watched.json`: what a watched run of a trial found, with what only its end or its recipe could tell."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pitprop.records import Finding
from pitprop.report.trial_file import Part, Wrong, malformed, number

NAME = "watched.json"


def beyond_the_trace(folder: Path, replayed: Iterable[Finding]) -> list[Finding]:
    """Failures of the run in `folder` that a replay of its trace doesn't give.

    Args:
        folder: Folder of a watched run; without a `watched.json` there are none.
        replayed: What the rules say of the trace.

    Raises:
        PitpropError: The file is not what `watched_run` writes.
    """
    path = folder / NAME
    if not path.exists():
        return []
    try:
        content = Part(json.loads(path.read_text(encoding="utf-8")))
        found = [finding(one) for one in content.all("findings", Mapping)]
    except (OSError, ValueError, Wrong) as error:
        raise malformed(path, str(error)) from None
    said = {(f.rule, f.site) for f in replayed if f.severity == "failure"}
    return [f for f in found if f.severity == "failure" and (f.rule, f.site) not in said]


def finding(content: Mapping[str, Any]) -> Finding:
    """One finding of the file; raises `Wrong` where it isn't one."""
    get = Part(content, "findings.")
    return Finding(
        rule=get("rule", str),
        severity=get("severity", str),
        site=get("site", str),
        onset=get("onset", int),
        detected=get("detected", int),
        message=get("message", str),
        evidence={name: number(value) for name, value in get("evidence", Mapping, {}).items()},
        remedies=get.all("remedies", str, []),
    )
