"""All checks on one subject; none of them can take the caller down."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from pitprop._errors import PitpropError
from pitprop.checks._check import ROOT, CheckEntry, Subject, found
from pitprop.records import Finding
from pitprop.rules._allow import INTERNAL, is_allowed, read_allow

NOT_RUN = "not-run"
"""Rule name of the note about checks that lacked something."""


def run_all(entries: Iterable[CheckEntry], subject: Subject, allow: Iterable[str] = ()) -> list[Finding]:
    """Findings of `entries`; see `pitprop.check`."""
    if not isinstance(subject.model, nn.Module):
        raise PitpropError(
            f"checks got a {type(subject.model).__name__}, not a torch module",
            means="They read modules, parameters and buffers.",
            do="Pass the `torch.nn.Module` that is trained.",
        )
    entries = tuple(entries)
    return ask(entries, subject, allow, tuple(entry.name for entry in entries))


def ask(
    entries: Iterable[Any], subject: Any, allow: Iterable[str], names: tuple[str, ...], more: Iterable[Finding] = ()
) -> list[Finding]:
    """Findings of `entries` on a subject of their kind, and `more`; `names` may be allowed."""
    allowed = read_allow(allow, (*names, NOT_RUN))
    findings: list[Finding] = []
    raised: dict[str, list[str]] = {}
    waiting: dict[str, list[str]] = {}
    for entry in entries:
        check = entry.load()
        missing = [need for need in check.needs if not _given(subject, need)]
        if missing:
            waiting.setdefault(" and ".join(missing), []).append(check.name)
        else:
            try:
                findings += check.run(subject)
            except Exception as error:  # one check that can't be answered leaves the others their say
                raised.setdefault(f"{type(error).__name__}: {error}", []).append(check.name)
    findings += [
        found(INTERNAL, "warning", ROOT, f"{', '.join(names)} raised {error}; this says nothing about the model.")
        for error, names in raised.items()
    ]
    findings += [
        found(NOT_RUN, "note", ROOT, f"{', '.join(names)}: not asked, for want of {need}.")
        for need, names in waiting.items()
    ]
    return [finding for finding in (*findings, *more) if not is_allowed(finding, allowed)]


def _given(subject: Any, need: str) -> bool:
    value = getattr(subject, need)
    return value is not None and value != ()
