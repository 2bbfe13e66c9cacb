"""A metric that can't see whether the model looks at its input.

## What it detects
`evaluate` is asked three times: as it is, with the model's inputs shuffled over the batch, and with the first sample's
input for all. A metric that is the same each time can't see the failure (warning when it is the one that decides, else
note).

## Why it matters
Every verdict of a trial, and every early stopping, is only as good as its metric. One that is computed from the
targets, from the weights, or from another model than the one that collapsed is calm while the outputs are all the same.

## Reads
A recipe's `evaluate`, three times, with all zero tensors nudged before: behind a zero output nothing shows.

## Threshold
None: the numbers are equal or they aren't.

## When it is wrong
A model whose input comes another way than by its arguments (a graph kept in the model, an environment) is not reached,
and nothing is said. Metrics that count something else than quality are blind by right, and a note.

## Remedies
Take a metric that compares outputs with their own targets, or outputs with each other (`output_spread`).

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model, x, y = nn.Linear(4, 2), torch.randn(32, 4), torch.randn(32, 2)
>>> def evaluate():
...     outputs = model(x)
...     return {"score": float(y.std()), "error": float((outputs - y).detach().square().mean())}
>>> [finding] = CHECK.run(Subject(model=model, evaluate=evaluate, metric="score"))
>>> finding.severity, finding.message
('warning', '`score` is the same with every input shuffled or replaced by one: it can see no collapse.')

## References
Catalogue of failure modes, modes 16 and 17; the negative controls of `docs/verdicts.md`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pitprop.checks._check import Subject, found
from pitprop.checks._forward import preserved
from pitprop.checks._inputs import changed, first_for_all, inputs_of, rolled
from pitprop.checks._wake import is_zero, nudge
from pitprop.records import RUN, Finding


@dataclass(frozen=True, kw_only=True)
class BlindMetric:
    """Metrics that are constant when the input is taken away."""

    name: ClassVar[str] = "blind-metric"
    needs: ClassVar[tuple[str, ...]] = ("evaluate",)

    def run(self, subject: Subject) -> list[Finding]:
        model, evaluate = subject.model, subject.evaluate
        assert evaluate is not None  # `needs` has it
        reached = 0

        def asked(change=None):
            def hook(module, args, kwargs):
                nonlocal reached
                inputs = inputs_of(model, args, kwargs)
                reached += bool(inputs)
                return changed(model, args, kwargs, inputs, change) if change else None

            handle = model.register_forward_pre_hook(hook, with_kwargs=True)
            try:
                torch.manual_seed(0)
                return dict(evaluate())
            finally:
                handle.remove()

        with preserved(model), subject.kept():
            nudge([p for p in model.parameters() if is_zero(p)])
            plain = asked()
            if not reached:
                return []
            others = [asked(rolled), asked(first_for_all)]
        return [
            found(
                self.name,
                "warning" if metric == subject.metric else "note",
                RUN,
                f"`{metric}` is the same with every input shuffled or replaced by one: it can see no collapse.",
                {metric: value},
            )
            for metric, value in plain.items()
            if all(other.get(metric) == value for other in others)
        ]


CHECK = BlindMetric()
