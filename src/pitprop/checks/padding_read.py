"""Padding that the answers depend on, although a mask in the batch says that nothing is there.

## What it detects
A batch has a mask of padding: boolean, of at least two axes, true from the start of each row up to some place and false
from there on (or the reverse), beside tensors whose first axes are the mask's and that hold one and the same value
wherever there is padding. The samples that are padded at the last place are asked twice, with that place and without
it. Where the model's outputs differ, padding is read (warning).

## Why it matters
A mask that is forgotten, handed to one layer of two, or multiplied onto tokens before an attention (a key of zeros
still takes its share) raises nothing. The answer to a sample then depends on how long the longest of its batch is, and
evaluation with another batch size gives other numbers.

## Reads
One batch and two passes; the model's own outputs in eval mode, with zero tensors nudged. Outputs that have the mask's
axes are compared where something is there; those that change their shape otherwise are left out.

## Threshold
The outputs move by less than the square root of their type's resolution, relative to the largest element (3e-4 in
float32): rounding errors, as in `unused-input`.

## When it is wrong
An output that is a statistic of the padding itself (a share of empty places). Only padding at the end is recognised,
and only in a batch with some; lengths in the place of a mask, and masks of integers, are not.

## Remedies
None by itself: `key_padding_mask` or -inf in the place of a product, and means over what is there.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Mean(nn.Module):
...     def __init__(self, right):
...         super().__init__()
...         self.embed, self.right = nn.Linear(4, 3), right
...     def forward(self, tokens, there):
...         kept = self.embed(tokens) * there[..., None]
...         return kept.sum(1) / there.sum(1, keepdim=True) if self.right else kept.mean(1)
>>> there = torch.arange(6) < torch.tensor([6, 4, 3, 5])[:, None]
>>> batch = {"tokens": torch.randn(4, 6, 4) * there[..., None], "there": there}
>>> for right in (True, False):
...     for finding in CHECK.run(Subject(model=Mean(right), batches=(batch,))):
...         print(finding.severity, finding.message)
warning one place less of what `batch.there` marks as padding changes the outputs for 3 padded samples: it is read.

## References
The context encoder of the system behind the case `grid_solver` (`unmasked_pairs`), whose missing pairs took their share
of the attention.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pitprop.checks._check import ROOT, Subject, found
from pitprop.checks._forward import Pass, differ, named_tensors, one_pass, preserved, with_tensors
from pitprop.checks._wake import is_zero, nudge
from pitprop.records import Finding


@dataclass(frozen=True, slots=True)
class Padding:
    """A mask of padding, and the tensors that lie beside it."""

    path: str
    there: Tensor
    """[sample, place]; True where something is."""
    beside: Mapping[str, Tensor]
    """Every tensor with the same samples, the mask too, by path."""

    @property
    def samples(self) -> Tensor:
        """Numbers of the samples that are padded at the last place, again and again up to the size of the batch."""
        padded = (~self.there[:, -1]).nonzero().flatten()
        return padded[torch.arange(len(self.there), device=padded.device) % len(padded)]

    def batches(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """These samples, with the last place and without."""
        full = {path: tensor[self.samples] for path, tensor in self.beside.items()}
        shape = self.there.shape
        return full, {path: t[:, :-1] if self.beside[path].shape[:2] == shape else t for path, t in full.items()}


@dataclass(frozen=True, kw_only=True)
class PaddingRead:
    """Answers that change with the padding."""

    name: ClassVar[str] = "padding-read"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        first = next(((batch, padding) for batch in subject.batches for padding in paddings(batch)), None)
        if first is None:
            return []
        batch, padding = first
        full, cut = (with_tensors(batch, tensors) for tensors in padding.batches())
        with preserved(subject.model):
            whole = one_pass(subject, full)
            try:
                less = one_pass(subject, cut)
            except Exception as error:  # sizes may be fixed
                return [self._unasked(f"one place of `{padding.path}` less raises {type(error).__name__}")]
            if whole.output is None:
                return [self._unasked("the loss never called the model as a whole")]
            nudge([p for p in subject.model.parameters() if is_zero(p)])
            subject.model.eval()
            before = _outputs(subject, whole)
            if differ([*before.values()], [*_outputs(subject, whole, seed=1).values()]):
                return [self._unasked("the same call gives different outputs")]
            after = _outputs(subject, less)
        there = padding.there[padding.samples]
        pairs = [
            pair for path, tensor in before.items() if path in after and (pair := _alike(tensor, after[path], there))
        ]
        if not differ([one for one, _ in pairs], [other for _, other in pairs]):
            return []
        num = int((~padding.there[:, -1]).sum())
        message = (
            f"one place less of what `{padding.path}` marks as padding changes the outputs for {num} padded samples: "
            "it is read."
        )
        return [found(self.name, "warning", ROOT, message, {"num_samples": num})]

    def _unasked(self, why: str) -> Finding:
        return found(self.name, "note", ROOT, f"not asked: {why}.")


def paddings(batch: Any) -> Iterator[Padding]:
    """The masks of padding in a batch; see the page."""
    tensors = named_tensors(batch)
    for path, mask in tensors.items():
        if mask.dtype != torch.bool or mask.dim() != 2 or 0 in mask.shape or mask.shape[1] < 2:
            continue
        there = mask if bool(mask[0, 0]) else ~mask
        if not there[:, 0].all() or there[:, -1].all() or (there.int().diff(dim=1) > 0).any():
            continue
        within = path.rpartition(".")[0]
        beside = {p: t for p, t in tensors.items() if p.rpartition(".")[0] == within and t.shape[:1] == mask.shape[:1]}
        if any(_filled(t, there) for p, t in beside.items() if p != path and t.shape[:2] == mask.shape):
            yield Padding(path, there, beside)


def _filled(tensor: Tensor, there: Tensor) -> bool:
    """Whether padding is one value, and what is there isn't."""
    filler, content = tensor[~there], tensor[there]
    value = filler.reshape(-1)[:1]
    return bool(len(value)) and bool((filler == value).all()) and bool((content != content.reshape(-1)[0]).any())


def _outputs(subject: Subject, done: Pass, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    with torch.no_grad():
        return named_tensors(subject.model(*done.args, **done.kwargs), "output")


def _alike(whole: Tensor, less: Tensor, there: Tensor) -> tuple[Tensor, Tensor] | None:
    """The parts of an output that should be equal; None where its shape follows the places in another way."""
    if whole.shape[:2] == there.shape and less.shape == (len(there), there.shape[1] - 1, *whole.shape[2:]):
        kept = there[:, :-1]
        return whole[:, :-1][kept], less[kept]
    return (whole, less) if whole.shape == less.shape else None


CHECK = PaddingRead()
