"""A metric that can't see whether the model looks at its input.

## What it detects
`evaluate` is asked three times: as it is, with the model's inputs shuffled over the batch, and with the first sample's
input for all. A metric that is the same each time can't see the failure (warning when it is the one that decides, else
note). Of a model whose own outputs are the same each time, no metric could see more, and nothing is said.

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
from torch import Tensor

from pitprop.checks._check import Subject, found
from pitprop.checks._forward import differ, preserved, tensors_in
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
            outputs = []

            def enter(module, args, kwargs):
                nonlocal reached
                inputs = inputs_of(model, args, kwargs)
                reached += bool(inputs)
                return changed(model, args, kwargs, inputs, change) if change else None

            def leave(module, args, output):
                outputs.extend(tensor.detach().clone() for tensor in tensors_in(output))

            handles = (
                model.register_forward_pre_hook(enter, with_kwargs=True),
                model.register_forward_hook(leave),
            )
            try:
                torch.manual_seed(0)
                return dict(evaluate()), outputs
            finally:
                for handle in handles:
                    handle.remove()

        with preserved(model), subject.kept():
            nudge([p for p in model.parameters() if is_zero(p)])
            plain, outputs = asked()
            if not reached:
                return []
            changes = [asked(rolled), asked(first_for_all)]
            if not _looks(outputs, *(then for _, then in changes)):
                return []  # there is nothing for a metric to see
            others = [metrics for metrics, _ in changes]
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


def _looks(outputs: list[Tensor], shuffled: list[Tensor], one_for_all: list[Tensor]) -> bool:
    """Whether the model looks at its input: a sample's output moves with the sample's input.

    A mean over the batch moves with the batch, and not with the sample: what counts is the shuffled batch, where there
    is an output for each sample; a loss is the same for a shuffled batch, and may move only with the other change.
    """
    if not len(outputs) == len(shuffled) == len(one_for_all):
        return True
    each = [i for i, tensor in enumerate(outputs) if tensor.dim() and len(tensor) > 1]
    if each:
        return differ([outputs[i] for i in each], [shuffled[i] for i in each])
    return differ(outputs, one_for_all)


CHECK = BlindMetric()
