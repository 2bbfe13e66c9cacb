"""The contract of a check: one question about a model, answered before training."""

import contextlib
import functools
import importlib
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pitprop.records import Finding, Severity

LossFn = Callable[[Any, Any], Any]
"""`loss_fn(model, batch)`: the loss, or one whole training step that makes its own backward pass."""

ROOT = "<model>"
"""Site of the model itself, whose dotted name is empty."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Subject:
    """What the checks are asked about, and everything they may use to answer."""

    model: Any
    """A torch module."""
    batches: tuple[Any, ...] = ()
    """Up to three, each what the model takes: a tensor, a tuple of positional arguments, a mapping of keyword ones."""
    loss_fn: LossFn | None = None
    """For batches of any other form, and for gradients of the true loss rather than of a random readout."""
    optimizers: tuple[Any, ...] = ()
    step: Callable[[Any], Any] | None = None
    """One whole training step on a batch; it changes the training, so it is called within `kept()` only."""
    kept: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    """On leaving, the training (model, optimizers, random states) is what it was."""
    evaluate: Callable[[], Mapping[str, float]] | None = None
    """Metrics of the model as it is."""
    metric: str | None = None
    """The metric that decides."""
    copies: Mapping[str, Any] = field(default_factory=dict)
    """Further modules of the training by name, such as an EMA copy."""


class Check(Protocol):
    """One question about a model. It leaves the model, its gradients and every random state as they were."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Fields of `Subject` without which there is no answer."""

    def run(self, subject: Subject) -> list[Finding]:
        """Findings about the subject; their onset is step 0."""
        ...


@dataclass(frozen=True, slots=True)
class CheckEntry:
    """A check in the registry, known by name until it is used: its module imports torch, the registry doesn't."""

    name: str
    """Name on the command line, and to allow it by."""
    where: str
    """Module that holds `CHECK`; its docstring is the page."""

    def load(self) -> Check:
        """The check itself; imports torch."""
        return importlib.import_module(self.where).CHECK


def once(question: Callable[[Subject], Any]) -> Callable[[Subject], Any]:
    """The answer to `question` is kept as long as its subject lives: several checks read one pass."""
    answers: weakref.WeakKeyDictionary[Subject, Any] = weakref.WeakKeyDictionary()

    @functools.wraps(question)
    def asked(subject: Subject) -> Any:
        if subject not in answers:
            answers[subject] = question(subject)
        return answers[subject]

    return asked


def found(
    rule: str,
    severity: Severity,
    site: str,
    message: str,
    evidence: Mapping[str, float] | None = None,
    remedies: tuple[str, ...] = (),
) -> Finding:
    """A finding before the first step."""
    return Finding(
        rule=rule,
        severity=severity,
        site=site,
        onset=0,
        detected=0,
        message=message,
        evidence={name: float(value) for name, value in (evidence or {}).items()},
        remedies=remedies,
    )


def some(names: list[str], most: int = 3) -> str:
    """The first few of `names`, and that there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def common(names: list[str]) -> str:
    """The innermost module that holds all parameters called `names`."""
    shared = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared) or ROOT
