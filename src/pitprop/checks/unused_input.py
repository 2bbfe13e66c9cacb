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

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from pitprop.checks._check import ROOT, Subject, found
from pitprop.checks._forward import differ, one_pass, preserved, tensors_in
from pitprop.checks._inputs import batch_size, changed, inputs_of, rolled
from pitprop.checks._wake import is_zero, nudge
from pitprop.records import Finding

if TYPE_CHECKING:
    from pitprop.checks._jax import JaxSubject


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
        return self._tell(asked, unused, "the output")

    def _tell(self, asked: list[str], unused: list[str], what: str) -> list[Finding]:
        if unused and len(unused) == len(asked):
            message = f"{what} is the same whatever goes in ({', '.join(f'`{n}`' for n in unused)})."
            return [found(self.name, "failure", ROOT, message, {"num_inputs": len(asked)}, ("ShuffleCondition",))]
        return [
            found(
                self.name,
                "warning",
                ROOT,
                f"{what} does not depend on `{name}`: shuffled over the batch, it moves nothing.",
                {"num_inputs": len(asked)},
                ("ShuffleCondition",),
            )
            for name in unused
        ]


def of_jax(subject: "JaxSubject") -> list[Finding]:
    """The same question, of the arrays in a jax step's batch: do its metrics depend on them?

    Each is shuffled over the batch against the others, and replaced by its first sample; targets count as inputs.
    """
    import jax
    import jax.numpy as jnp

    from pitprop.checks import _jax
    from pitprop.watch._pytree import named_leaves

    # What a mean over the batch says of an input is small: large weights and a fine comparison, for what is not used
    # changes no bit of it.
    nudged = _jax.nudged(subject, _jax.zero_parameters(subject), size=0.3)
    batch = subject.batches[0]
    leaves = [(name or "the batch", jnp.asarray(leaf)) for name, leaf in named_leaves(batch)]
    size = batch_size([leaf for _, leaf in leaves])
    _, before = subject.ask(nudged, batch)

    def moves(at: int, change: Callable) -> bool:
        changed = [change(leaf) if i == at else leaf for i, (_, leaf) in enumerate(leaves)]
        return _jax.moved(before, subject.ask(nudged, jax.tree.unflatten(jax.tree.structure(batch), changed))[1], 1e-6)

    asked = {
        (name if name[0].isalpha() else f"batch.{name}"): at
        for at, (name, leaf) in enumerate(leaves)
        if leaf.ndim and leaf.shape[0] == size > 1 and not bool((leaf == jnp.roll(leaf, 1, 0)).all())
    }
    changes = (lambda x: jnp.roll(x, 1, 0), lambda x: jnp.broadcast_to(x[:1], x.shape))
    unused = [name for name, at in asked.items() if not any(moves(at, change) for change in changes)]
    return CHECK._tell(list(asked), unused, "the step")


CHECK = UnusedInput()
