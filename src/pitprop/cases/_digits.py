"""Real data: scikit-learn's 1797 handwritten digits of 8x8 pixels, in one fixed split."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor

NUM_TRAIN = 1400


class Digits(NamedTuple):
    """Images in [0, 1] with their labels."""

    images: Float[Tensor, "image 1 8 8"]
    labels: Int[Tensor, " image"]


@cache
def digits() -> tuple[Digits, Digits]:
    """Training part (1400 images) and test part (397), the same ones on every machine.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (CC BY 4.0), as shipped with
    scikit-learn.
    """
    pixels, target = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(target))
    images = torch.tensor(pixels[order] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(target[order])
    return Digits(images[:NUM_TRAIN], labels[:NUM_TRAIN]), Digits(images[NUM_TRAIN:], labels[NUM_TRAIN:])
