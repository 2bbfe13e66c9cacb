"""Inputs and conditions that the output does not depend on.

## What it detects
One by one, each input of the model is shuffled over the batch. Where no output moves, the model does not depend on it:
warning for one of several inputs, failure when that is all of them.

## Why it matters
A condition that is computed and never used, a batch axis that is averaged over, a context that is overwritten: shapes
are right and the loss falls, down to what the other inputs can give.

## Reads
One batch; the model's own arguments, by name. All zero tensors are nudged before, because behind a zero-initialised
projection no input shows yet; and the model is put into eval mode.

## Threshold
The output moves by less than the square root of its type's resolution, relative to its largest element (3e-4 in
float32): rounding errors, for a network of which nothing is trained.

## When it is wrong
Inputs that are the same for every sample can't be asked by shuffling and are left out. A condition that only acts in
training mode, or that is multiplied by a flag, is unused as the model stands.

## Remedies
None by itself: `ShuffleCondition` tells in a trial what the condition is worth once the model is trained.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Conditional(nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.embed, self.head = nn.Linear(3, 8), nn.Linear(4, 8)
...     def forward(self, x, condition):
...         unused = self.embed(condition)
...         return self.head(x)
>>> batch = torch.randn(6, 4), torch.randn(6, 3)
>>> for finding in CHECK.run(Subject(model=Conditional(), batches=(batch,))):
...     print(finding.severity, finding.message)
warning the output does not depend on `condition`: shuffled over the batch, it moves nothing.

## References
Catalogue of failure modes, modes 8 and 17.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pitprop.checks._check import ROOT, Subject, found
from pitprop.checks._forward import differ, one_pass, preserved, tensors_in
from pitprop.checks._inputs import changed, inputs_of, rolled
from pitprop.checks._wake import is_zero, nudge
from pitprop.records import Finding


@dataclass(frozen=True, kw_only=True)
class UnusedInput:
    """Inputs that move nothing."""

    name: ClassVar[str] = "unused-input"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        model = subject.model
        with preserved(model):
            done = one_pass(subject, subject.batches[0])
            if done.output is None:
                return [found(self.name, "note", ROOT, "not asked: the loss never called the model as a whole.")]
            nudge([p for p in model.parameters() if is_zero(p)])
            model.eval()

            def answer(names=()):
                torch.manual_seed(0)
                args, kwargs = changed(model, done.args, done.kwargs, names, rolled)
                with torch.no_grad():
                    return tensors_in(model(*args, **kwargs))

            before = answer()
            if differ(before, answer()):
                return [found(self.name, "note", ROOT, "not asked: the same call gives different outputs.")]
            inputs = inputs_of(model, done.args, done.kwargs)
            asked = [name for name, t in inputs.items() if not torch.equal(t, rolled(t))]
            unused = [name for name in asked if not differ(before, answer((name,)))]
        if unused and len(unused) == len(asked):
            message = f"the output is the same whatever goes in ({', '.join(f'`{n}`' for n in unused)})."
            return [found(self.name, "failure", ROOT, message, {"num_inputs": len(asked)}, ("ShuffleCondition",))]
        return [
            found(
                self.name,
                "warning",
                ROOT,
                f"the output does not depend on `{name}`: shuffled over the batch, it moves nothing.",
                {"num_inputs": len(asked)},
                ("ShuffleCondition",),
            )
            for name in unused
        ]


CHECK = UnusedInput()
