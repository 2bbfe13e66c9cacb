"""The small CNN whose weights are merged: exactly 1232 parameters, run functionally from a flat vector."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import vmap

SHAPES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("conv1.weight", (4, 1, 3, 3)),
    ("conv1.bias", (4,)),
    ("conv2.weight", (6, 4, 3, 3)),
    ("conv2.bias", (6,)),
    ("linear.weight", (10, 96)),
    ("linear.bias", (10,)),
)
"""Layers in the order of the flat vector, weight before bias as in the original's zoo files."""

NUM_WEIGHTS = sum(math.prod(shape) for _, shape in SHAPES)
"""1232: 40 in the first convolution, 222 in the second, 970 in the linear layer."""

SEED = 22
"""Seed of the common initialisation of the zoo, the original's."""


def unflatten(weights: Float[Tensor, "1232"]) -> dict[str, Tensor]:
    """The layers of one flat vector, by name."""
    sizes = [math.prod(shape) for _, shape in SHAPES]
    parts = weights.split(sizes)
    return {name: part.view(shape) for (name, shape), part in zip(SHAPES, parts, strict=True)}


def forward(weights: Float[Tensor, "1232"], images: Float[Tensor, "image 1 8 8"]) -> Float[Tensor, "image 10"]:
    """Logits of the CNN with these weights."""
    layer = unflatten(weights)
    x = F.max_pool2d(F.relu(F.conv2d(images, layer["conv1.weight"], layer["conv1.bias"], padding=1)), 2)
    x = F.relu(F.conv2d(x, layer["conv2.weight"], layer["conv2.bias"], padding=1))
    return F.linear(x.flatten(1), layer["linear.weight"], layer["linear.bias"])


forward_each = vmap(forward)
"""Many CNNs, each on images of its own: `[cnn, 1232], [cnn, image, 1, 8, 8] -> [cnn, image, 10]`."""

forward_all = vmap(forward, in_dims=(0, None))
"""Many CNNs on the same images: `[cnn, 1232], [image, 1, 8, 8] -> [cnn, image, 10]`."""


def initial(seed: int) -> Float[Tensor, "1232"]:
    """The common starting point of a zoo: Kaiming-uniform weights and biases of 0.01, as in the original."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name, shape in SHAPES:
        if name.endswith("bias"):
            parts.append(torch.full(shape, 0.01))
        else:
            bound = math.sqrt(6 / math.prod(shape[1:]))
            parts.append(torch.empty(shape).uniform_(-bound, bound, generator=generator).flatten())
    return torch.cat(parts)


@torch.no_grad()
def accuracy(
    weights: Float[Tensor, "cnn 1232"],
    images: Float[Tensor, "image 1 8 8"],
    labels: Int[Tensor, " image"],
    classes: Bool[Tensor, "cnn 10"],
) -> Float[Tensor, " cnn"]:
    """Share of the images of a CNN's own classes that it labels rightly, between 0 and 1, one number per CNN."""
    right = forward_all(weights, images).argmax(-1) == labels
    own = classes[:, labels]
    return (right & own).sum(1) / own.sum(1)
