"""What a data set gives and what a training step sees, whatever the preset."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Sample(NamedTuple):
    """One photograph, with what is wrong with it."""

    image: Float[Tensor, "3 height width"]
    """RGB in [0, 1]."""
    mask: Float[Tensor, "height width"]
    """1 where the defect is; all 0 for a normal sample."""
    label: int
    """1 for a defective sample."""
    class_name: str
    """What is shown; goes into the prompts."""


class Batch(NamedTuple):
    """What one step sees."""

    image: Float[Tensor, "image 3 height width"]
    mask: Float[Tensor, "image height width"]
    label: Int[Tensor, " image"]
    class_index: Int[Tensor, " image"]
    """Row of the model's text features and text context."""
    stream: Float[Tensor, "image token width"] | None = None
    """The vision tower's residual stream after block 0, computed before: nothing trained lies before it."""
    features: Float[Tensor, "level image patch embed"] | None = None
    """The frozen towers' own patch features at the four levels, for stage 1, where they were computed before."""
    context: Float[Tensor, "image patch embed"] | None = None
    """What the text cross-attention looks at in stage 1."""


def collate(samples: list[Sample], class_names: tuple[str, ...]) -> Batch:
    """Stacks samples; `class_names` gives each class its row."""
    return Batch(
        image=torch.stack([sample.image for sample in samples]),
        mask=torch.stack([sample.mask for sample in samples]),
        label=torch.tensor([sample.label for sample in samples]),
        class_index=torch.tensor([class_names.index(sample.class_name) for sample in samples]),
    )


def take(pool: Batch, rows: Int[Tensor, " image"]) -> Batch:
    """The given images of a pool, with whatever was computed before."""
    return Batch(
        image=pool.image[rows],
        mask=pool.mask[rows],
        label=pool.label[rows],
        class_index=pool.class_index[rows],
        stream=None if pool.stream is None else pool.stream[rows],
        features=None if pool.features is None else pool.features[:, rows],
        context=None if pool.context is None else pool.context[rows],
    )
