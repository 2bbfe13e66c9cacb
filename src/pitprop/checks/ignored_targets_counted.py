"""A loss that counts the targets it ignores, so that a sample with few targets hardly weighs.

## What it detects
Targets of -100 (torch's `ignore_index`) stand beside others. The targets that aren't are divided in two, and the loss
is asked with one half, with the other, with both and with none. Where the halves add up to the whole (note), a target
adds the same however few there are: the sum was divided by a number that counts the ignored ones too, or by none.

## Why it matters
`(loss * mask).mean()` in the place of `loss[mask].mean()`: the loss and its gradient shrink with the padding, a batch
of short samples trains with a fraction of the learning rate that one of long samples has, and the curve falls when the
samples get shorter. On a canvas of 30 x 30 a task of 3 x 3 weighs a hundredth.

## Reads
The loss of one batch, four times, in which targets are replaced by -100; random states are the same each time.

## Threshold
The halves add up to the whole within 0.1 %, beside what is left without any target. A mean over targets is wrong by
100 % in this.

## When it is wrong
A sum over targets by intention, divided by the number of samples or by a number that the loop knows: each target
weighs the same, and that is a choice; hence a note. A model that reads its targets (teacher forcing) can't be asked
so, nor can a loss that is undefined without targets, which is a mean of what is there. Masks in the place of -100
aren't known as such.

## Remedies
None by itself: divide by the number of targets, of the sample where samples should weigh the same.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> from torch.nn.functional import cross_entropy
>>> x, targets = torch.randn(8, 5, 4), torch.randint(0, 3, (8, 5))
>>> targets[:4, 1:] = -100
>>> def over_all(model, batch):
...     return cross_entropy(model(batch[0]).mT, batch[1], reduction="none").mean()
>>> def over_those_there(model, batch):
...     return cross_entropy(model(batch[0]).mT, batch[1])
>>> for loss_fn in (over_all, over_those_there):
...     for finding in CHECK.run(Subject(model=nn.Linear(4, 3), batches=((x, targets),), loss_fn=loss_fn)):
...         print(finding.severity, finding.evidence["weight_ratio"])
note 5.0

## References
The task loss of the system behind the case `grid_solver` (`over_canvas`).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from pitprop.checks._check import Subject, found
from pitprop.checks._forward import named_tensors, one_pass, preserved, with_tensors
from pitprop.records import RUN, Finding

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class IgnoredTargetsCounted:
    """Losses to which each target adds the same, however many there are."""

    name: ClassVar[str] = "ignored-targets-counted"
    needs: ClassVar[tuple[str, ...]] = ("batches", "loss_fn")

    within: float = 1e-3
    """Relative distance between the whole and the sum of its halves."""

    def run(self, subject: Subject) -> list[Finding]:
        batch = subject.batches[0]
        whole = {
            path: tensor
            for path, tensor in named_tensors(batch).items()
            if tensor.dtype == torch.int64
            and tensor.dim() > 1
            and (tensor == IGNORED).any()
            and (tensor != IGNORED).any()
        }
        if not whole:
            return []
        coin = torch.Generator().manual_seed(0)
        heads = {path: (torch.rand(t.shape, generator=coin) < 0.5).to(t.device) for path, t in whole.items()}
        ways = [
            whole,
            {path: t.masked_fill(heads[path], IGNORED) for path, t in whole.items()},
            {path: t.masked_fill(~heads[path], IGNORED) for path, t in whole.items()},
            {path: torch.full_like(t, IGNORED) for path, t in whole.items()},
        ]
        losses = []
        with preserved(subject.model):
            for targets in ways:
                loss = one_pass(subject, with_tensors(batch, targets)).loss
                losses.append(math.nan if loss is None else float(loss))
        both, one, other, none = losses
        if not (both != none and abs(one + other - none - both) <= self.within * abs(both - none)):
            return []
        counts = torch.cat([(t != IGNORED).flatten(1).sum(1) for t in whole.values()])
        most, least = int(counts.max()), int(counts[counts > 0].min())
        message = (
            f"the loss adds up over targets ({', '.join(f'`{p}`' for p in whole)}), ignored ones count in its mean: "
            f"a sample with {most} targets weighs {most / least:.3g} times one with {least}."
        )
        return [found(self.name, "note", RUN, message, {"weight_ratio": most / least})]


CHECK = IgnoredTargetsCounted()
