"""`laptop`'s data: crops of real photographs with the synthetic defects of the field, whose masks are exact.

Defects: Perlin-mask blends of another surface (DRAEM, Zavrtanik et al., arXiv 2108.07610), cut-paste and scratches
(CutPaste and its scar, Li et al., arXiv 2104.04015). Held-out images come from another part of each photograph, so that
no pixel is in both.
"""

from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pitprop._errors import PitpropError
from pitprop.cases._photographs import photograph
from pitprop.cases.clip_anomaly.sample import Batch, Sample, collate

CLASSES = ("brick", "grass", "gravel", "coins", "moon", "camera")
"""Photographs in scikit-image, all grey."""
Part = Literal["train", "held_out"]
HELD_OUT = 0.3
"""Right-hand share of each photograph that only held-out images show."""
MIXED = (0.5, 1.0)
"""Share of the other surface in a Perlin blend, drawn from this range (DRAEM has 0.2 to 1)."""


def crop(name: str, part: Part, size: int, rng: np.random.Generator) -> Float[ndarray, "size size"]:
    """A crop at a random place of one part of a photograph, flipped at random; grey, in [0, 1]."""
    whole = photograph(name)[..., 0]
    border = round((1 - HELD_OUT) * whole.shape[1])
    whole = whole[:, :border] if part == "train" else whole[:, border:]
    if size > min(whole.shape):
        raise PitpropError(f"The {part} part of `{name}` is {whole.shape[0]} x {whole.shape[1]} pixels, under {size}.")
    row, column = (int(rng.integers(length - size + 1)) for length in whole.shape)
    found = whole[row : row + size, column : column + size]
    return found[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))].copy()


def perlin(size: int, cells: int, rng: np.random.Generator) -> Float[ndarray, "size size"]:
    """Perlin's gradient noise on a grid of `cells` x `cells`; about -1 to 1, 0 at the grid's nodes.

    Source: Perlin, "Improving noise", SIGGRAPH 2002.
    """
    angle = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    at = (np.arange(size) + 0.5) * cells / size
    node, inside = at.astype(int), at % 1

    def towards(down: int, right: int) -> ndarray:
        corner = angle[np.ix_(node + down, node + right)]
        return np.sin(corner) * (inside[:, None] - down) + np.cos(corner) * (inside[None] - right)

    fade = inside**3 * (inside * (6 * inside - 15) + 10)
    top = towards(0, 0) + fade[None] * (towards(0, 1) - towards(0, 0))
    bottom = towards(1, 0) + fade[None] * (towards(1, 1) - towards(1, 0))
    return 2**0.5 * (top + fade[:, None] * (bottom - top))


def blend(image: ndarray, other: ndarray, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """Another surface shows where Perlin noise is high."""
    size = len(image)
    mask = np.zeros_like(image)
    while not 0.01 < mask.mean() < 0.25:
        noise = perlin(size, int(rng.choice((2, 4))), rng)
        mask = (noise > rng.uniform(0.35, 0.7)).astype(np.float32)
    share = rng.uniform(*MIXED)
    return image + mask * share * (other - image), mask


def cut_paste(image: ndarray, other: ndarray, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """A rectangle of the other surface."""
    size, mask = len(image), np.zeros_like(image)
    height, width = rng.integers(size // 8, size // 3 + 1, size=2)
    row, column = rng.integers(size - height + 1), rng.integers(size - width + 1)
    mask[row : row + height, column : column + width] = 1
    return np.where(mask > 0, other, image), mask


def scratch(image: ndarray, other: ndarray, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """A straight line, much darker or brighter than what it crosses."""
    size = len(image)
    centre = rng.uniform(0.25 * size, 0.75 * size, 2)
    angle = rng.uniform(0, np.pi)
    length, thickness = rng.uniform(0.3, 0.6) * size, rng.uniform(1.5, 3.0)
    offset = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1) - centre
    along = offset @ np.array([np.sin(angle), np.cos(angle)])
    across = offset @ np.array([np.cos(angle), -np.sin(angle)])
    mask = ((np.abs(along) < length / 2) & (np.abs(across) < thickness / 2)).astype(np.float32)
    tone = 0.05 if image[mask > 0].mean() > 0.5 else 0.95
    return np.where(mask > 0, tone, image), mask


DEFECTS = (blend, cut_paste, scratch)


def draw(class_name: str, part: Part, size: int, rng: np.random.Generator, *, defective: bool) -> Sample:
    """One sample; its pixels differ from the normal photograph nowhere but where the mask is 1."""
    image, mask = crop(class_name, part, size, rng), np.zeros((size, size), np.float32)
    if defective:
        other = crop(str(rng.choice([name for name in CLASSES if name != class_name])), part, size, rng)
        image, mask = DEFECTS[rng.integers(len(DEFECTS))](image, other, rng)
    pixels = torch.from_numpy(np.clip(image, 0, 1).astype(np.float32))
    return Sample(pixels.expand(3, -1, -1).clone(), torch.from_numpy(mask), int(defective), class_name)


@cache
def pool(part: Part, num: int, size: int, seed: int = 0) -> Batch:
    """Half of the samples defective, all classes equally often; the same ones whenever asked. Don't write into it."""
    rng = np.random.default_rng((seed, part == "held_out"))
    samples = [
        draw(CLASSES[index % len(CLASSES)], part, size, rng, defective=index // len(CLASSES) % 2 == 1)
        for index in range(num)
    ]
    return collate(samples, CLASSES)
