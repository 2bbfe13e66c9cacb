"""One question per file, asked of a model before it is trained; the file is its own page.

The registry is plain strings, so listing checks imports no torch. One more check is one new file and one line.
"""

from collections.abc import Iterable
from typing import Any

from pitprop._errors import PitpropError, nearest
from pitprop.checks._check import Check, CheckEntry, LossFn
from pitprop.records import Finding

__all__ = ["CHECKS", "Check", "CheckEntry", "by_name", "run_checks"]

CHECKS: tuple[CheckEntry, ...] = (
    CheckEntry("outside-optimizer", "pitprop.checks.outside_optimizer"),
    CheckEntry("saturated-at-initialisation", "pitprop.checks.saturated_at_initialisation"),
)
"""Every check; `entry.load()` gives the check itself."""


def by_name(name: str) -> CheckEntry:
    """The check called `name`.

    Raises:
        PitpropError: There is none; the error names the nearest.
    """
    known = {entry.name: entry for entry in CHECKS}
    if name not in known:
        raise PitpropError(f"there is no check `{name}`", do=nearest(name, known), read="pitprop list checks")
    return known[name]


def run_checks(
    model: Any,
    batch: Any = None,
    *,
    optimizer: Any = None,
    loss_fn: LossFn | None = None,
    allow: Iterable[str] = (),
) -> list[Finding]:
    """Every check on `model`, which stays as it is: modes, buffers and random states are put back.

    A check that lacks its batch or optimizer is a note, and one that raises is a finding of `pitprop-internal`.

    Args:
        model: A torch module.
        batch: What the model takes: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
        optimizer: One optimizer, or several.
        loss_fn: `loss_fn(model, batch)`, for batches of any other form.
        allow: What not to report: `"check"`, or `"check@site"`.

    Raises:
        PitpropError: `model` is no torch module, or `allow` names no check.
    """
    from pitprop.checks._run import run_all  # imports torch

    return run_all(CHECKS, model, batch, optimizer, loss_fn, allow)
