"""Real photographs without a download: those inside scikit-image's package."""

from functools import cache

import numpy as np
from jaxtyping import Float
from skimage import data

from pitprop._errors import PitpropError, nearest

SURFACES = ("brick", "grass", "gravel")
"""Textures, 512 x 512, grey."""
SCENES = ("astronaut", "camera", "chelsea", "coffee", "coins", "moon", "rocket")
"""Everything else that is bundled and shows something; colour, but for camera, coins and moon."""


@cache
def photograph(name: str) -> Float[np.ndarray, "height width 3"]:
    """One photograph, RGB in [0, 1]; grey ones have three equal channels. Don't write into it.

    Source: scikit-image's `skimage.data`, whose README gives the origin and licence of each (public domain or CC0).
    Raises `PitpropError` for a name that isn't in `SURFACES` or `SCENES`.
    """
    if name not in (known := SURFACES + SCENES):
        raise PitpropError(f"There is no photograph `{name}`: {nearest(name, known)}")
    pixels = np.asarray(getattr(data, name)(), dtype=np.float32) / 255
    pixels = np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]
    pixels.setflags(write=False)
    return pixels


def patches(name: str, num: int, size: int, rng: np.random.Generator) -> Float[np.ndarray, "patch size size 3"]:
    """Square crops at random places of one photograph.

    Args:
        name: See `photograph`.
        num: Number of crops.
        size: Side in pixels, at most the photograph's shorter one.
        rng: Draws the places.
    """
    whole = photograph(name)
    if size > min(whole.shape[:2]):
        raise PitpropError(f"`{name}` is {whole.shape[0]} x {whole.shape[1]} pixels, crops of {size} don't fit.")
    rows, columns = (rng.integers(whole.shape[axis] - size + 1, size=num) for axis in (0, 1))
    return np.stack([whole[r : r + size, c : c + size] for r, c in zip(rows, columns, strict=True)])
