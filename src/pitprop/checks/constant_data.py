"""Data in which nothing varies: the same batch again and again, one sample for all, one label.

## What it detects
Over the batches given: batches that are equal in every tensor, batches whose samples are all equal, a floating tensor
of one single value, and labels of one class (warnings; failure when no tensor varies at all).

## Why it matters
A loader that restarts at each step, a cache that holds one sample, a normalisation that divides everything away: the
loss falls, to the loss of knowing one batch.

## Reads
Two or three batches; every tensor in them. No model.

## Threshold
None: values are equal or they aren't.

## When it is wrong
Overfitting one batch is a sound test, and is reported. A mask of ones, as floating numbers, is one single value. Where
a single batch is given nothing can be said about the next.

## Remedies
Look at the loader. `SwapData` shows in a trial what other data do.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> x, y = torch.randn(8, 4), torch.randint(0, 2, (8,))
>>> for finding in CHECK.run(Subject(model=nn.Linear(4, 2), batches=((x, y), (x, y), (x, y)))):
...     print(finding.severity, finding.message)
warning 3 batches in a row are the same.

## References
Catalogue of failure modes, modes 15 and 16, as seen from the data.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pitprop.checks._check import Subject, found
from pitprop.checks._forward import named_tensors
from pitprop.records import RUN, Finding, Severity


@dataclass(frozen=True, kw_only=True)
class ConstantData:
    """Tensors of a batch in which nothing varies."""

    name: ClassVar[str] = "constant-data"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        batches = [named_tensors(batch) for batch in subject.batches]
        names = [n for n, t in batches[0].items() if all(n in b and b[n].dim() and len(b[n]) > 1 for b in batches)]
        if not names:
            return []
        if not any(_varies(batch[name]) for batch in batches for name in names):
            return [self._finding("failure", "no tensor of the batches varies from sample to sample.", len(batches))]
        findings = []
        if len(batches) > 1 and all(_equal(batches[0], other) for other in batches[1:]):
            findings.append(self._finding("warning", f"{len(batches)} batches in a row are the same.", len(batches)))
        for name in names:
            tensors = [batch[name] for batch in batches]
            value = tensors[0].reshape(-1)[0]
            if not all(bool((t == value).all()) for t in tensors):
                continue
            if tensors[0].is_floating_point():
                message = f"`{name}` is {float(value):g} everywhere, in {len(batches)} batches."
            elif tensors[0].dim() == 1 and not tensors[0].dtype.is_complex and tensors[0].element_size() > 1:
                message = f"every label in `{name}` is {int(value)}, in {len(batches)} batches."
            else:
                continue  # a mask of ones, positions: constant by right
            findings.append(self._finding("warning", message, len(batches)))
        return findings

    def _finding(self, severity: Severity, message: str, count: int) -> Finding:
        return found(self.name, severity, RUN, message, {"num_batches": count}, ("SwapData",))


def _varies(tensor: Tensor) -> bool:
    return bool((tensor != tensor[:1]).any())


def _equal(batch: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return batch.keys() == other.keys() and all(
        t.shape == other[name].shape and bool((t == other[name]).all()) for name, t in batch.items()
    )


CHECK = ConstantData()
