"""Gradients with activation checkpointing against gradients without.

## What it detects
On one batch, from the same state and the same random numbers, the gradients with `torch.utils.checkpoint` as the model
has it, and with every checkpoint replaced by a plain call. Parameters that lose their gradient, gradients that differ,
and a backward pass that raises are failures.

## Why it matters
Checkpointing runs the forward pass a second time, during backward. What changed meanwhile (a ramp, a stage flag, a
dictionary entry) gives a gradient of another function, silently: 68 % wrong in one measured case. With
`use_reentrant=True` and no direct argument that asks for a gradient, everything inside loses its gradient, with only a
warning.

## Reads
One batch, twice forward and backward. Models without checkpointing cost one pass.

## Threshold
None when a gradient is missing; otherwise the difference's norm over the square root of the type's resolution times the
gradient's.

## When it is wrong
Randomness of one's own (another generator than torch's) differs between any two passes. With
`preserve_rng_state=False` dropout draws anew: that is a difference, and it is reported.

## Remedies
`use_reentrant=False`; pass what changes as an argument; change flags after the backward pass.

## Example
>>> import torch, warnings
>>> from torch import nn
>>> from torch.utils.checkpoint import checkpoint
>>> from pitprop.checks import Subject
>>> class Checkpointed(nn.Module):
...     def __init__(self, reentrant):
...         super().__init__()
...         self.body, self.head, self.reentrant = nn.Linear(4, 4), nn.Linear(4, 1), reentrant
...     def forward(self, x):
...         return self.head(checkpoint(self.body, x, use_reentrant=self.reentrant))
>>> for reentrant in (False, True):
...     print([f.severity for f in CHECK.run(Subject(model=Checkpointed(reentrant), batches=(torch.randn(8, 4),)))])
[]
['failure']

## References
Documentation of `torch.utils.checkpoint`. Catalogue of failure modes, mode 37; experiments a and a2 of the survey.
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.utils import checkpoint

from pitprop.checks._check import Subject, common, found, some
from pitprop.checks._forward import Pass, one_pass, preserved
from pitprop.records import Finding


@dataclass(frozen=True, kw_only=True)
class CheckpointExactness:
    """Checkpointed gradients that are not the gradients."""

    name: ClassVar[str] = "checkpoint-exactness"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        with preserved(subject.model), _plain() as calls:
            expected = one_pass(subject, subject.batches[0])
        if not calls:
            return []
        try:
            # What torch warns of here is what the finding says.
            with preserved(subject.model), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = one_pass(subject, subject.batches[0])
        except RuntimeError as error:  # CheckpointError is one
            reason = str(error).strip().splitlines()[0]
            names = list(expected.gradients)
            return [self._finding(names, f"with checkpointing the backward pass raises: {reason}", {})]
        return self._compare(expected, got)

    def _compare(self, expected: Pass, got: Pass) -> list[Finding]:
        lost, wrong = [], {}
        for name, gradient in expected.gradients.items():
            other = got.gradients[name]
            if gradient is None or not bool(gradient.any()):
                continue
            if other is None:
                lost.append(name)
                continue
            size = float(gradient.float().norm())
            error = float((gradient - other).float().norm()) / size
            if not error <= torch.finfo(gradient.dtype).eps ** 0.5:
                wrong[name] = error
        findings = []
        if lost:
            message = f"{len(lost)} parameters ({some(lost)}) get a gradient only without checkpointing"
            findings.append(
                self._finding(lost, f"{message}; use_reentrant=True drops it silently.", {"num_lost": len(lost)})
            )
        if wrong:
            worst = max(wrong, key=lambda name: wrong[name])
            message = (
                f"{len(wrong)} gradients ({some(list(wrong))}) differ with checkpointing, the most at {worst} by "
                f"{wrong[worst]:.1%}: something changes between the forward pass and its repetition."
            )
            evidence = {"num_wrong": len(wrong), "relative_error": wrong[worst]}
            findings.append(self._finding(list(wrong), message, evidence))
        return findings

    def _finding(self, names: list[str], message: str, evidence: dict[str, float]) -> Finding:
        return found(self.name, "failure", common(names), message, evidence)


@contextlib.contextmanager
def _plain() -> Iterator[list[None]]:
    """Every checkpoint becomes a plain call, also where `checkpoint` was imported by name; yields one item per call."""
    calls: list[None] = []

    class Direct:
        @staticmethod
        def apply(function, preserve, *args):
            calls.append(None)
            return function(*args)

    def direct(*_args, **_kwargs):
        calls.append(None)
        yield

    names = {"CheckpointFunction": Direct, "_checkpoint_without_reentrant_generator": direct}
    kept = {name: getattr(checkpoint, name) for name in names}
    try:
        for name, value in names.items():
            setattr(checkpoint, name, value)
        yield calls
    finally:
        for name, value in kept.items():
            setattr(checkpoint, name, value)


CHECK = CheckpointExactness()
