"""Sets of images of one class, and the leave-one-out contexts of a set.

The laptop's data are scikit-learn's 1797 handwritten digits: classes 0 to 6 train, 7 to 9 are never trained on.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.datasets import load_digits

from pitprop._errors import PitpropError

TRAIN_CLASSES, NOVEL_CLASSES = tuple(range(7)), (7, 8, 9)
VALIDATION_SHARE = 0.25


class Split(NamedTuple):
    """Images in [-1, 1] by class."""

    train: dict[int, Float[ndarray, "image channel height width"]]
    """Training classes, the part that is trained on."""
    validation: dict[int, Float[ndarray, "image channel height width"]]
    """Training classes, the rest."""
    novel: dict[int, Float[ndarray, "image channel height width"]]
    """Classes that no training sees."""


@cache
def digits() -> Split:
    """The digits, in the same split on every machine.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (CC BY 4.0), as shipped with
    scikit-learn.
    """
    pixels, target = load_digits(return_X_y=True)
    images = (pixels / 8 - 1).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(target))
    by_class = {int(k): images[order][target[order] == k] for k in np.unique(target)}
    cut = {k: int(len(by_class[k]) * (1 - VALIDATION_SHARE)) for k in TRAIN_CLASSES}
    return Split(
        {k: by_class[k][: cut[k]] for k in TRAIN_CLASSES},
        {k: by_class[k][cut[k] :] for k in TRAIN_CLASSES},
        {k: by_class[k] for k in NOVEL_CLASSES},
    )


def leave_one_out(set_size: int) -> Int[ndarray, "image other"]:
    """For image i of a set, the indices of all others: its context.

    Indexing a batch of sets with it puts the encoder's passes into the batch, so that one compiled program runs all.
    """
    return np.array([[k for k in range(set_size) if k != i] for i in range(set_size)])


def draw_set(images: Float[ndarray, "image ..."], size: int, rng: np.random.Generator) -> Float[ndarray, "size ..."]:
    """`size` different images of one class; raises `PitpropError` where there are fewer."""
    if len(images) < size:
        raise PitpropError(
            f"A set needs {size} images of one class, and there are {len(images)}.",
            do="choose a smaller `sample_size`.",
        )
    return images[rng.choice(len(images), size, replace=False)]


def sets(
    by_class: dict[int, Float[ndarray, "image channel height width"]],
    seed: int,
    cursor: int,
    *,
    num_sets: int,
    set_size: int,
) -> Iterator[Float[ndarray, "set image channel height width"]]:
    """Batches of sets, each of one class drawn at random; number n is a function of the seed and n alone."""
    classes = sorted(by_class)
    while True:
        rng = np.random.default_rng([seed, cursor])
        yield np.stack([draw_set(by_class[k], set_size, rng) for k in rng.choice(classes, num_sets)])
        cursor += 1


def balanced_sets(
    by_class: dict[int, Float[ndarray, "image channel height width"]], *, repeats: int, set_size: int
) -> Float[ndarray, "set image channel height width"]:
    """Fixed sets for evaluation: `repeats` rounds through all classes.

    Rolled by 1 to `len(by_class) - 1`, each set meets one of another class.
    """
    rng = np.random.default_rng(0)
    return np.stack([draw_set(by_class[k], set_size, rng) for _ in range(repeats) for k in sorted(by_class)])
