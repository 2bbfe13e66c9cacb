"""Real images without a download: handwritten digits, or crops of photographs, 8x8 pixels in [-1, 1]."""

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pitprop.cases._digits import digits
from pitprop.cases._photographs import SCENES, SURFACES, photograph

Source = Literal["digits", "photographs"]
NUM_LABELS = 10
"""Of either source."""
SIDE = 8
CROP = 64
"""Side in pixels of a photograph's crop, before it is averaged down to 8x8."""
NUM_TRAIN, NUM_TEST = 1300, 400
"""Crops of photographs, split as the digits nearly are."""


class Images(NamedTuple):
    """Images in [-1, 1] with their labels."""

    images: Float[Tensor, "image channel 8 8"]
    labels: Int[Tensor, " image"]


@cache
def load(source: Source) -> tuple[Images, Images]:
    """Training part and test part, the same ones on every machine.

    The digits have one channel, the photographs three. The label of a crop is the photograph it comes from, and test
    crops come from the right third, where no training crop reaches.
    """
    if source == "digits":
        train, test = digits()
        return Images(train.images * 2 - 1, train.labels), Images(test.images * 2 - 1, test.labels)
    return _crops(NUM_TRAIN, right=False), _crops(NUM_TEST, right=True)


def _crops(num: int, right: bool) -> Images:
    rng = np.random.default_rng((0, right))
    found = []
    for name in (names := SURFACES + SCENES):
        whole = torch.from_numpy(photograph(name).copy()).permute(2, 0, 1)
        cut = whole.shape[2] * 2 // 3
        part = whole[:, :, cut:] if right else whole[:, :, :cut]
        rows, columns = (rng.integers(part.shape[axis] - CROP + 1, size=num // len(names)) for axis in (1, 2))
        crops = torch.stack([part[:, r : r + CROP, c : c + CROP] for r, c in zip(rows, columns, strict=True)])
        found.append(F.avg_pool2d(crops, CROP // SIDE) * 2 - 1)
    order = torch.from_numpy(rng.permutation(len(found) * len(found[0])))
    labels = torch.arange(len(names)).repeat_interleave(len(found[0]))
    return Images(torch.cat(found)[order], labels[order])
