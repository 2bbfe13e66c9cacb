"""The ImageNet-compatible images (NIPS 2017 subset) as the original reads them: a folder and `labels.txt`.

folder/images/0001.png ...      in natural order; any number of them
folder/labels.txt               one label per line, 1 to 1000, in the images' order
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pitprop._errors import PitpropError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
NUM_CLASSES = 1000
READ = "src/pitprop/cases/timestep_attack/README.md"


class Photograph(NamedTuple):
    """One image with its label, counted from 0."""

    path: Path
    label: int


def read_folder(folder: Path) -> list[Photograph]:
    """Paths and labels; no image is opened yet.

    Raises:
        PitpropError: No such folder, no images, no `labels.txt`, another number of labels than images, or a line
            that is no number from 1 to 1000.
    """
    folder = Path(folder)
    images, listed = folder / "images", folder / "labels.txt"
    for path, there in ((images, images.is_dir()), (listed, listed.is_file())):
        if not there:
            raise PitpropError(
                f"There is no {path}",
                means="the full-size attack reads `images/` and `labels.txt` (a label per line, 1 to 1000).",
                do="give the folder that holds both.",
                read=READ,
            )
    paths = sorted((path for path in images.iterdir() if path.suffix.lower() in SUFFIXES), key=_natural)
    lines = [line.strip() for line in listed.read_text(encoding="utf-8", errors="replace").splitlines()]
    labels = [_label(line, number, listed) for number, line in enumerate(lines, 1) if line]
    if not paths or len(paths) != len(labels):
        raise PitpropError(
            f"{images} holds {len(paths)} images, {listed} {len(labels)} labels",
            means="line n is the label of image n in natural order (2.png before 10.png).",
            do="make them agree." if paths else f"put images there ({', '.join(sorted(SUFFIXES))}).",
            read=READ,
        )
    return [Photograph(*pair) for pair in zip(paths, labels, strict=True)]


def load_image(path: Path, resolution: int) -> Float[Tensor, "3 resolution resolution"]:
    """One image in [-1, 1], resized by Lanczos' filter whatever its shape, as in the original.

    Raises:
        PitpropError: It can't be read as an image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB").resize((resolution, resolution), Image.Resampling.LANCZOS)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise PitpropError(
            f"{path} can't be read as an image: {error}", do="replace it, or take it and its label out.", read=READ
        ) from error
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1).contiguous() / 127.5 - 1


def read_names(path: Path) -> tuple[str, ...]:
    """Class names, one per line in the order of the labels; the prompts.

    Raises:
        PitpropError: The file can't be read, or hasn't 1000 lines with text.
    """
    try:
        names = tuple(line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise PitpropError(
            f"{path} can't be read: {error}", do="give a text file with a class name per line."
        ) from error
    if len(names) != NUM_CLASSES or not all(names):
        raise PitpropError(
            f"{path} holds {sum(map(bool, names))} class names",
            means=f"each of the {NUM_CLASSES} labels needs one; it is the prompt.",
            do="give one name per line, without empty lines.",
        )
    return names


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.lower())]


def _label(line: str, number: int, listed: Path) -> int:
    if not line.isdecimal() or not 1 <= int(line) <= NUM_CLASSES:
        raise PitpropError(
            f"Line {number} of {listed} is {line!r}",
            means=f"a label is a number from 1 to {NUM_CLASSES}.",
            do="labels that count from 0 need 1 added.",
            read=READ,
        )
    return int(line) - 1
