"""From an entry of a data folder to a sample: read, resize, and for training augment as the original does."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance

from pitprop._errors import PitpropError
from pitprop.cases.clip_anomaly.folders import Entry
from pitprop.cases.clip_anomaly.sample import Sample

ROTATION, SHIFT, JITTER = 30.0, 0.15, 0.5
"""Most degrees, most of the side, most relative change of brightness, contrast and saturation."""
CHANCE, JITTER_CHANCE = 0.5, 0.7
"""Of each movement, and of the jitter."""


def load(entry: Entry, size: int, rng: np.random.Generator | None = None) -> Sample:
    """Image and mask at `size` x `size` pixels, bicubic and nearest, the mask binarised.

    Args:
        entry: See `folders`.
        size: Side in pixels; photographs that aren't square are squeezed, as in the original.
        rng: Draws an augmentation, the same movement for image and mask; None leaves both as they are.

    Raises:
        PitpropError: A file that is no image, or a mask of another size than its image.
    """
    image = _open(entry.image).convert("RGB")
    marked = np.zeros(image.size[::-1], bool) if entry.mask is None else _marked(entry.mask)
    if marked.shape != image.size[::-1]:
        raise PitpropError(
            f"The mask {entry.mask} has {marked.shape[1]} x {marked.shape[0]} pixels, its photograph "
            f"{entry.image.name} {image.size[0]} x {image.size[1]}.",
            do="use the mask that belongs to it.",
        )
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    mask = Image.fromarray(marked.astype(np.uint8) * 255).resize((size, size), Image.Resampling.NEAREST)
    if rng is not None:
        image, mask = augmented(image, mask, rng)
    return Sample(
        image=torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1).contiguous(),
        mask=torch.from_numpy((np.array(mask) > 0).astype(np.float32)),
        label=entry.label,
        class_name=entry.class_name,
    )


def augmented(image: Image.Image, mask: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Rotation, translation and both flips, each at a chance of 1/2, and a jitter of the colours at .7."""
    angle = rng.uniform(-ROTATION, ROTATION) if rng.random() < CHANCE else 0.0
    shift = rng.uniform(-SHIFT, SHIFT, 2) * image.size if rng.random() < CHANCE else np.zeros(2)
    flips = [
        flip for flip in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM) if rng.random() < CHANCE
    ]
    moved = []
    for picture, resample in ((image, Image.Resampling.BILINEAR), (mask, Image.Resampling.NEAREST)):
        picture = picture.rotate(angle, resample, translate=(round(shift[0]), round(shift[1])))
        for flip in flips:
            picture = picture.transpose(flip)
        moved.append(picture)
    image = moved[0]
    if rng.random() < JITTER_CHANCE:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(rng.uniform(1 - JITTER, 1 + JITTER))
    return image, moved[1]


def _marked(path: Path) -> np.ndarray:
    """Where the mask isn't black; VisA's masks hold the numbers of kinds of defect."""
    mask = _open(path)
    return np.asarray(mask if mask.mode in ("1", "L", "P", "I", "I;16") else mask.convert("L")) > 0


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # what Pillow raises for bad files
        raise PitpropError(
            f"{path} can't be read as an image: {error}.", do="replace the file, or leave it out."
        ) from error
    return image
