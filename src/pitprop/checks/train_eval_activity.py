"""Modules that run in training and not in evaluation, or the other way round, and copies whose flags differ.

## What it detects
The same call is made in train mode and in eval mode; modules with parameters that run in one only are warnings. So are
modules with trained parameters that run in a training step and not in the recipe's own `evaluate()`, and copies of the
model in the training (an EMA) whose flags or numbers differ from the model's.

## Why it matters
A module that runs only in evaluation is never trained; one that runs only in training is missing from every number that
is reported. A copy made before a flag was switched evaluates another model: one project of the survey read 0 % from an
EMA that had inherited `active=False`. Another trained a cross-attention for weeks, and its test script called the model
without the argument that switches it on.

## Reads
One batch and two forward passes; one evaluation, where there is one; attributes of plain type (bool, number, text) of
the model and of its copies.

## Threshold
None: a module ran or it didn't, a flag is equal or it isn't.

## When it is wrong
Auxiliary heads that help training only do so on purpose. Modules without parameters (dropout, noise) are left out. A
flag that a schedule switches later is seen only in the state that the model is in now: ask again with a checkpoint, or
see `ema-drift`, which watches. Of a recipe, copies are the modules among the training's attributes and theirs. An
evaluation that calls no module of the model (it evaluates a copy, or calls functions of the parameters) is not judged.
A module that a step runs without any gradient is `no-gradient`'s to name, not trained.

## Remedies
Take the branch on `self.training` away, or hold flags in buffers, which copies and checkpoints carry.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Forgetful(nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.base, self.adapter = nn.Linear(4, 4), nn.Linear(4, 4)
...     def forward(self, x):
...         return self.base(x) + (self.adapter(x) if self.training else 0)
>>> [finding] = CHECK.run(Subject(model=Forgetful(), batches=(torch.randn(8, 4),)))
>>> finding.severity, finding.message
('warning', 'adapter runs in train mode and not in eval mode: the numbers of an evaluation are without it.')

## References
Catalogue of failure modes, modes 23 and 38; seed 2, whose follow-up is `BUG_FIX_META_LEARNING_AT_EVAL.md`; seed 1,
whose `test_cross_attention_feedback.py` evaluates with the cross-attention off.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pitprop.checks._check import ROOT, Subject, found
from pitprop.checks._forward import PLAIN, one_pass, preserved, twin
from pitprop.records import Finding


@dataclass(frozen=True, kw_only=True)
class TrainEvalActivity:
    """What runs in one mode only."""

    name: ClassVar[str] = "train-eval-activity"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        findings = [
            found(
                self.name,
                "warning",
                path or ROOT,
                f"{path or ROOT}.{flag} is {ours!r} in the model and {theirs!r} in its copy `{name}`: they compute "
                "different things.",
            )
            for name, copy in subject.copies.items()
            for path, flag, ours, theirs in _flags(subject.model, copy)
        ]
        findings += _unevaluated(subject)
        ran = _census(subject)
        if ran is None:
            return findings
        for here, there, meaning in (
            ("train", "eval", "the numbers of an evaluation are without it"),
            ("eval", "train", "it is never trained"),
        ):
            for path in _outermost(ran[here] - ran[there]):
                message = f"{path} runs in {here} mode and not in {there} mode: {meaning}."
                findings.append(found(self.name, "warning", path, message))
        return findings


def _census(subject: Subject) -> dict[str, set[str]] | None:
    """Paths of the modules with parameters that run, by mode; None where the model isn't called as a whole."""
    model = subject.model
    with preserved(model):
        done = one_pass(subject, subject.batches[0])
        if done.output is None:
            return None
        ran: dict[str, set[str]] = {}
        # In eval mode torch's encoder layers call a fused kernel instead of their children.
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            for mode in ("train", "eval"):
                model.train(mode == "train")
                with torch.no_grad(), _running(model) as ran[mode]:
                    model(*done.args, **done.kwargs)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    return ran


def _unevaluated(subject: Subject) -> list[Finding]:
    """What a training step runs and trains, and an evaluation doesn't run."""
    if subject.evaluate is None:
        return []
    model = subject.model
    with preserved(model), _running(model) as ran:
        gradients = one_pass(subject, subject.batches[0]).gradients
    with preserved(model), _running(model) as evaluated:
        subject.evaluate()
    reached = {id(p) for name, p in model.named_parameters() if gradients.get(name) is not None}
    trained = {path for path, module in model.named_modules() if any(id(p) in reached for p in module.parameters())}
    only = (ran - evaluated) & trained if evaluated else set()
    return [
        found(
            TrainEvalActivity.name,
            "warning",
            path,
            f"{path} runs and is trained in a step, and doesn't run in `evaluate()`: the numbers are without it.",
        )
        for path in _outermost(only - {""})
    ]


@contextlib.contextmanager
def _running(model: nn.Module) -> Iterator[set[str]]:
    """Paths of the modules with parameters that run within."""
    seen: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, path=path: seen.add(path))
        for path, module in model.named_modules()
        if next(module.parameters(), None) is not None
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _outermost(paths: set[str]) -> list[str]:
    return sorted(path for path in paths if not any(path.startswith(f"{other}.") for other in paths))


def _flags(model: nn.Module, copy: nn.Module):
    """`(path, attribute, the model's, the copy's)` of plain attributes that differ, where `copy` is built alike."""
    alike = twin(model, copy)
    theirs = dict(alike.named_modules()) if alike is not None else {}
    for path, module in model.named_modules() if alike is not None else ():
        for flag, value in vars(module).items():
            other = getattr(theirs[path], flag, value)
            if flag != "training" and type(value) in PLAIN and type(other) in PLAIN and other != value:
                yield path, flag, value, other


CHECK = TrainEvalActivity()
