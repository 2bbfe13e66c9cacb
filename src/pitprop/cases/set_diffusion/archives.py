"""Readers of Omniglot's zip archives and of CIFAR-100, which trust neither: nothing is unpacked to disk, no pickled
object is made.

Where the files lie is the user's affair; nothing is downloaded.
"""

import pickle
import zipfile
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from pitprop._errors import PitpropError

MAX_MEMBERS, MAX_MEMBER_BYTES, MAX_TOTAL_BYTES = 100_000, 1 << 20, 1 << 30
OMNIGLOT_SIZE = 28
CIFAR_ROW = 2 + 3 * 32 * 32
"""Bytes of an image in CIFAR-100's binary layout: coarse label, fine label, pixels."""


def check_archive(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The archive's files, where all of it is harmless.

    Raises:
        PitpropError: A member has an absolute name or `..` in it, is a link, or is too large, or there are too many.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_TOTAL_BYTES:
        raise _refused(archive, f"{len(members)} members of {sum(m.file_size for m in members)} bytes are too much")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise _refused(archive, f"`{member.filename}` leads out of the archive")
        if S_ISLNK(member.external_attr >> 16):
            raise _refused(archive, f"`{member.filename}` is a link")
        if member.file_size > MAX_MEMBER_BYTES:
            raise _refused(archive, f"`{member.filename}` has {member.file_size} bytes")
    return [member for member in members if not member.is_dir()]


def omniglot(path: Path) -> dict[str, Float[ndarray, "drawing 1 28 28"]]:
    """Drawings by `alphabet/character`, in [-1, 1] (ink is 1), resized from 105 to 28 pixels by area.

    Args:
        path: `images_background.zip` or another of the same layout (Lake et al. 2015).

    Raises:
        PitpropError: The file is no such archive, or one that must not be trusted.
    """
    from PIL import Image

    found: dict[str, list[ndarray]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(check_archive(archive), key=lambda member: member.filename):
                parts = PurePosixPath(member.filename).parts
                if len(parts) < 3 or not parts[-1].endswith(".png") or parts[0] == "__MACOSX":
                    continue
                with archive.open(member) as file, Image.open(file, formats=["PNG"]) as image:
                    if max(image.size) > 1000:
                        raise _refused(archive, f"`{member.filename}` is of {image.size} pixels")
                    small = image.convert("L").resize((OMNIGLOT_SIZE, OMNIGLOT_SIZE), Image.Resampling.BOX)
                found.setdefault("/".join(parts[-3:-1]), []).append(1 - np.asarray(small, np.float32) / 127.5)
    except PitpropError:
        raise
    except Exception as error:  # a damaged archive or image may raise anything
        raise PitpropError(f"{path} can't be read: {error}", do="give Omniglot's zip archive as published.") from error
    if not found:
        raise PitpropError(f"{path} has no drawings in it.", do="give Omniglot's zip archive as published.")
    return {name: np.stack(images)[:, None] for name, images in found.items()}


def cifar100(path: Path) -> dict[int, Float[ndarray, "image 3 32 32"]]:
    """Images in [-1, 1] by fine label, from `train.bin` (binary layout) or `train` (python layout).

    Raises:
        PitpropError: The file is neither, or a pickle that asks for more than arrays and plain values.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PitpropError(f"{path} can't be read: {error}", do="give CIFAR-100's `train` or `train.bin`.") from error
    pixels, labels = _binary(content, path) if path.suffix == ".bin" else _python(path)
    images = pixels.reshape(-1, 3, 32, 32).astype(np.float32) / 127.5 - 1
    return {int(k): images[labels == k] for k in np.unique(labels)}


def _binary(content: bytes, path: Path) -> tuple[UInt8[ndarray, "image 3072"], ndarray]:
    if not content or len(content) % CIFAR_ROW:
        raise PitpropError(
            f"{path} has {len(content)} bytes, which is no multiple of {CIFAR_ROW}.",
            do="give `train.bin` or `test.bin` of CIFAR-100's binary version.",
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_ROW)
    return rows[:, 2:], rows[:, 1]


def _python(path: Path) -> tuple[ndarray, ndarray]:
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = np.asarray(content[b"data"]), np.asarray(content[b"fine_labels"])
    except PitpropError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise PitpropError(f"{path} is no file of CIFAR-100: {error!r}", do="give its `train` or `test`.") from error
    images = pixels.dtype == np.uint8 and pixels.ndim == 2 and pixels.shape[1] == CIFAR_ROW - 2
    if not images or labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise PitpropError(
            f"{path} holds {pixels.dtype} of shape {pixels.shape}, and labels that are {labels.dtype} of shape "
            f"{labels.shape}.",
            do="give CIFAR-100's `train` or `test`: rows of 3072 bytes, each with a fine label, a whole number.",
        )
    return pixels, labels


class _ArraysOnly(pickle.Unpickler):
    """Makes numpy's arrays and plain values; refuses every other object before it is made."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) == ("numpy.core.multiarray", "_reconstruct"):
            return _reconstruct
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): _encode,  # how protocol 2 of Python 3 writes bytes
        }
        if (module, name) in allowed:
            return allowed[module, name]
        raise PitpropError(
            f"The pickle asks for `{module}.{name}`.",
            means="CIFAR-100's files hold arrays and plain values; an unknown object could run code.",
            do="get the file from its publisher again.",
        )


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> ndarray:
    """What numpy's own does, for arrays alone."""
    if kind is not np.ndarray:
        raise PitpropError("The pickle reconstructs something that is no array.", do="get the file again.")
    return np.ndarray(shape, dtype)


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes that were written as text, in the one encoding that pickles use for that."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", b"latin1"):
        raise PitpropError("The pickle has bytes in an encoding of its own.", do="get the file again.")
    return text.encode("latin1")


def _dtype(code: Any, *flags: Any) -> np.dtype:
    """A dtype without objects in it."""
    made = np.dtype(code, *flags)
    if made.hasobject:
        raise PitpropError("The pickle has an array of objects.", do="get the file from its publisher again.")
    return made


def _refused(archive: zipfile.ZipFile, why: str) -> PitpropError:
    return PitpropError(
        f"{archive.filename} is refused: {why}.",
        means="an archive like that may write where it should not, or fill the memory.",
        do="get it from its publisher again.",
    )
