"""The weights that a run at full size keeps, with what they were trained from written into the file.

A base takes hours. So it is used again, but only where it is of this CLIP, these photographs, these steps and this
seed; another one is neither used nor overwritten.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pitprop._errors import PitpropError
from pitprop.cases.clip_anomaly.folders import Entry


def digest_of_clip(folder: Path) -> str:
    """Digest of a CLIP's configuration and weights."""
    found = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def digest_of_photographs(entries: Iterable[Entry], root: Path) -> str:
    """Digest of which photographs there are: their paths from the data folder on, sizes in bytes, labels, classes."""
    found, root = hashlib.sha256(), root.resolve()
    for entry in entries:
        for path in (entry.image, entry.mask):
            if path is not None:
                found.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
        found.update(f"{entry.label}\0{entry.class_name}\n".encode(errors="surrogateescape"))
    return found.hexdigest()[:16]


def keep(weights: dict[str, Tensor], path: Path, trained_from: Mapping[str, str]) -> None:
    """Writes beside the file first, so that an interrupted run leaves no half of one."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        save_file(weights, partial, metadata=dict(trained_from))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def kept(path: Path, trained_from: Mapping[str, str]) -> dict[str, Tensor] | None:
    """The weights in the file; None where there is none.

    Raises:
        PitpropError: It is damaged, or of other settings.
    """
    if not path.is_file():
        return None
    do = "give another folder as --out, or delete the file: then it is trained anew."
    try:
        with safe_open(path, "pt") as file:
            known = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise PitpropError(f"The weights in {path} can't be read: {error}.", do=do) from error
    other = [
        f"{name} {known.get(name, 'unknown')}, now {now}"
        for name, now in trained_from.items()
        if known.get(name) != now
    ]
    if other:
        raise PitpropError(
            f"The base in {path} was trained with other settings: {'; '.join(other)}.",
            means="The variants would be compared with a base that isn't theirs.",
            do=do,
        )
    return weights
