"""Parameters that ask for a gradient and get none, told apart by whether anything depends on them.

## What it detects
Parameters whose gradient is None, or exactly zero on every batch though no zero tensor stands in the way. Those that
move the output when they are changed are cut off (warning; failure when no parameter gets a gradient). Those that move
nothing are unused (note).

## Why it matters
A `detach`, a `no_grad`, an `argmax`, a round trip through numpy: the forward pass is right, the loss is computed, and
the parameter never learns. Nothing raises as long as one other parameter is trained.

## Reads
Up to three batches with their backward passes; then one forward pass per module in question, with its parameters
changed.

## Threshold
The gradient is exactly zero or None. A change of the output counts from the square root of the number type's resolution
on, relative to the largest output, so that a key bias under softmax, which moves only rounding errors, is unused.

## When it is wrong
Parameters that are trained by another rule than the gradient of this loss: a codebook by moving averages, a teacher
that is a copy and was not marked frozen, alternating losses. A branch that no batch seen here enters is called unused.

## Remedies
Take the cut away, or say `requires_grad_(False)` where it is meant. `Freeze` shows in a trial whether it matters.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Cut(nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.encoder, self.head, self.spare = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 4)
...     def forward(self, x):
...         return self.head(self.encoder(x).detach())
>>> for finding in CHECK.run(Subject(model=Cut(), batches=(torch.randn(8, 4),))):
...     print(finding.severity, finding.site)
warning encoder
note spare

## References
Catalogue of failure modes, modes 10 and 11, and its whitelist of structural zeros.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pitprop.checks._check import ROOT, Subject, common, found, some
from pitprop.checks._forward import differ, one_pass, preserved, tensors_in
from pitprop.checks._wake import gradients_of, is_zero, nudge, wake
from pitprop.records import Finding

if TYPE_CHECKING:
    from pitprop.checks._jax import JaxSubject

MOST = 32
"""Modules in question that are changed one by one; the rest are changed together."""


@dataclass(frozen=True, kw_only=True)
class NoGradient:
    """Parameters that the loss can't reach."""

    name: ClassVar[str] = "no-gradient"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        parameters = dict(subject.model.named_parameters())
        if not any(p.requires_grad for p in parameters.values()):
            return [self._finding("failure", ROOT, "no parameter asks for a gradient: everything is frozen.", 0)]
        with preserved(subject.model):
            waking = wake(subject)
            if not (waking.silent or waking.absent):
                return []
            nudge([parameters[name] for name in waking.zero if is_zero(parameters[name])])
            alive, _ = gradients_of(subject, waking.orders)
            without = [name for name in (*waking.silent, *waking.absent) if name not in alive]
            if not alive:
                reason = "no parameter gets a gradient: the loss does not depend on the model, or is cut off from it."
                return [self._finding("failure", ROOT, reason, len(without))]
            cut = _acting(subject, without)
        if cut is None:
            seen = (
                f"{len(without)} parameters ({some(without)}) get no gradient; what depends on them can't be told, for"
            )
            return [
                self._finding("note", common(without), f"{seen} the same pass gives different outputs.", len(without))
            ]
        return self._tell(without, cut)

    def _tell(self, without: list[str], cut: dict[str, list[str]]) -> list[Finding]:
        findings = []
        for site, names in cut.items():
            seen = f"{len(names)} parameters at {site} ({some(names)}) change the output and get no gradient"
            findings.append(self._finding("warning", site, f"{seen}: something cuts them off.", len(names)))
        unused = [name for name in without if name not in {n for names in cut.values() for n in names}]
        if unused:
            seen = f"{len(unused)} parameters ({some(unused)}) get no gradient, and nothing depends on them."
            findings.append(self._finding("note", common(unused), seen, len(unused)))
        return findings

    def _finding(self, severity, site: str, message: str, count: int) -> Finding:
        return found(self.name, severity, site, message, {"num_tensors": count}, ("Freeze",))


def _acting(subject: Subject, names: list[str]) -> dict[str, list[str]] | None:
    """Those of `names` that change the output, by module; None where the output changes by itself."""
    if not names:
        return {}
    before = _outputs(subject)
    if differ(before, _outputs(subject)):
        return None
    if not _moves(subject, names, before):
        return {}
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(common([name]), []).append(name)
    groups = list(modules.values())
    groups[MOST:] = [[name for group in groups[MOST:] for name in group]] if len(groups) > MOST else []
    return {common(group): group for group in groups if _moves(subject, group, before)}


def _moves(subject: Subject, names: list[str], before: list[Tensor]) -> bool:
    parameters = dict(subject.model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in names}
    with torch.no_grad():
        for name in names:
            size = kept[name].float().square().mean().sqrt().clamp(min=0.1).to(kept[name].dtype)
            parameters[name].add_(size * torch.randn_like(kept[name]))
    moved = differ(before, _outputs(subject))
    with torch.no_grad():
        for name in names:
            parameters[name].copy_(kept[name])
    return moved


def _outputs(subject: Subject) -> list[Tensor]:
    done = one_pass(subject, subject.batches[0])
    return [t.detach().clone() for t in tensors_in((done.output, done.loss))]


def of_jax(subject: "JaxSubject") -> list[Finding]:
    """The same question, of the parameters of a jax step; what they change are its metrics."""
    from pitprop.checks import _jax

    waking, changed = _jax.wake(subject)
    if not waking.silent:
        return []
    changed |= _jax.nudged(subject, [name for name in waking.zero if name not in changed])
    alive = _jax.gradients_of(subject, changed) | waking.orders.keys()
    without = [name for name in waking.silent if name not in alive]
    if not alive:
        reason = "no parameter gets a gradient: the loss does not depend on the model, or is cut off from it."
        return [CHECK._finding("failure", ROOT, reason, len(without))]
    _, before = subject.ask(changed, subject.batches[0])
    cut: dict[str, list[str]] = {}
    for name in without:
        _, after = subject.ask(changed | _jax.nudged(subject, [name], size=0.1), subject.batches[0])
        if _jax.moved(before, after):
            cut.setdefault(common([name]), []).append(name)
    return CHECK._tell(without, cut)


CHECK = NoGradient()
