"""The label can be read from the shape of the sample.

## What it detects
The label of every sample follows from its length (of padded rows) or from its shape (of samples in a list, of batches
of one shape each), though there are several labels and samples share shapes (warning).

## Why it matters
Two classes from two sources, one padded to 80 tokens and one to 128: the model needs to read nothing, held-out accuracy
is perfect, and on data of a third source it is chance.

## Reads
The batches given: one-dimensional integer tensors are labels, everything else has lengths or shapes. No model.

## Threshold
Every shape has one label only, and the chance of that under labels dealt at random is under 1 in 1000, by 9999
permutations with a fixed seed. That level is a convention.

## When it is wrong
Tasks that are about the length. Labels that only nearly follow from the shape are not reported, nor is a leak in more
samples than were seen here.

## Remedies
Pad, crop and resize all classes alike. `SwapData` shows in a trial what other data do.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> tokens, labels = torch.zeros(32, 12, dtype=torch.long), torch.arange(32) % 2
>>> for i, label in enumerate(labels):
...     tokens[i, : 5 + 4 * int(label)] = torch.randint(1, 9, (5 + 4 * int(label),))
>>> [finding] = CHECK.run(Subject(model=nn.Linear(1, 1), batches=((tokens, labels),)))
>>> finding.severity, finding.evidence["num_shapes"]
('warning', 2.0)

## References
Geirhos et al., "Shortcut learning in deep neural networks", arXiv 2004.07780. Catalogue of failure modes, mode 39.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pitprop.checks._check import Subject, found
from pitprop.checks._forward import named_tensors
from pitprop.records import RUN, Finding

PERMUTATIONS = 9999


@dataclass(frozen=True, kw_only=True)
class LabelFromShape:
    """Labels that follow from lengths or shapes."""

    name: ClassVar[str] = "label-from-shape"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    level: float = 1e-3
    """Chance of the same agreement under labels dealt at random, under which it is no accident."""

    def run(self, subject: Subject) -> list[Finding]:
        labels: dict[str, list[int]] = {}
        shapes: dict[str, list[Hashable]] = {}
        for batch in subject.batches:
            tensors = named_tensors(batch)
            kinds = {n: t for n, t in tensors.items() if t.dim() == 1 and t.dtype in (torch.int32, torch.int64)}
            size = max((len(t) for t in kinds.values()), default=0)
            for name, tensor in kinds.items():
                labels.setdefault(name, []).extend(tensor.tolist())
            for name, rows in _shapes(batch, size).items():
                shapes.setdefault(name, []).extend(rows)
        findings = []
        for label, values in labels.items():
            for name, rows in shapes.items():
                if len(rows) == len(values) and name != label and self._follows(rows, values):
                    kinds_seen, shapes_seen = len(set(values)), len(set(rows))
                    message = (
                        f"`{label}` follows from the shape of `{name}`: {shapes_seen} lengths or shapes, "
                        f"{kinds_seen} labels, no exception in {len(rows)} samples."
                    )
                    evidence = {"num_samples": len(rows), "num_shapes": shapes_seen, "num_labels": kinds_seen}
                    findings.append(found(self.name, "warning", RUN, message, evidence, ("SwapData",)))
        return findings

    def _follows(self, rows: list[Hashable], values: list[int]) -> bool:
        index = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        groups = np.array([index[row] for row in rows])
        classes = np.unique(np.array(values), return_inverse=True)[1]
        if len(index) < 2 or classes.max(initial=0) < 1 or not _pure(groups, classes):
            return False
        rng = np.random.default_rng(0)
        hits = sum(_pure(groups, rng.permutation(classes)) for _ in range(PERMUTATIONS))
        return (1 + hits) / (1 + PERMUTATIONS) < self.level


def _pure(groups: np.ndarray, classes: np.ndarray) -> bool:
    """Whether each group has one class."""
    pairs = groups * (classes.max() + 1) + classes
    return len(np.unique(pairs)) == groups.max() + 1


def _shapes(batch: Any, size: int) -> dict[str, list[Hashable]]:
    """Length or shape of every sample, by tensor; tensors in one list are one entry."""
    found: dict[str, list[Hashable]] = {}
    tensors = named_tensors(batch)
    for name, tensor in tensors.items():
        if tensor.dim() > 1 and len(tensor) == size:
            found[name] = [(tuple(tensor.shape[1:]), length) for length in _lengths(tensor)]
    lists: dict[str, list[Hashable]] = {}
    for name, tensor in tensors.items():
        lists.setdefault(name.rpartition(".")[0], []).append(tuple(tensor.shape))
    return found | {f"{name}.*": rows for name, rows in lists.items() if len(rows) == size}


def _lengths(tensor: Tensor) -> list[int]:
    """Places along the second axis before the padding: the run of equal entries at the end."""
    flat = tensor.reshape(*tensor.shape[:2], -1)
    same = (flat == flat[:, -1:]).all(-1).flip(1).long()
    return (tensor.shape[1] - same.cumprod(1).sum(1)).tolist()


CHECK = LabelFromShape()
