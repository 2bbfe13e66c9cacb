"""All checks on one model; none of them can take the caller down."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from pitprop._errors import PitpropError
from pitprop.checks._check import Check, CheckEntry, LossFn
from pitprop.checks._forward import ROOT
from pitprop.records import Finding, Severity
from pitprop.rules._allow import INTERNAL, is_allowed, read_allow


def run_all(
    entries: Iterable[CheckEntry], model: Any, batch: Any, optimizer: Any, loss_fn: LossFn | None, allow: Iterable[str]
) -> list[Finding]:
    """Findings of `entries`; see `pitprop.checks.run_checks`."""
    if not isinstance(model, nn.Module):
        raise PitpropError(
            f"checks got a {type(model).__name__}, not a torch module",
            means="They read modules, parameters and buffers.",
            do="Pass the `torch.nn.Module` that is trained.",
        )
    entries = tuple(entries)
    allowed = read_allow(allow, (entry.name for entry in entries))
    given = {"batch": batch, "optimizer": optimizer}
    findings = []
    for entry in entries:
        check = entry.load()
        missing = [need for need in check.needs if given[need] is None]
        if missing:
            findings.append(_finding(check.name, "note", f"not run: it needs {' and '.join(missing)}, not given."))
            continue
        findings += _ask(check, model, batch, optimizer, loss_fn)
    return [finding for finding in findings if not is_allowed(finding, allowed)]


def _ask(check: Check, model: nn.Module, batch: Any, optimizer: Any, loss_fn: LossFn | None) -> list[Finding]:
    try:
        return check.run(model, batch, optimizer=optimizer, loss_fn=loss_fn)
    except Exception as error:  # one check that can't be answered leaves the others their say
        why = f"check {check.name} raised {type(error).__name__}: {error}; it says nothing about the model."
        return [_finding(INTERNAL, "warning", why)]


def _finding(rule: str, severity: Severity, message: str) -> Finding:
    return Finding(rule=rule, severity=severity, site=ROOT, onset=0, detected=0, message=message)
