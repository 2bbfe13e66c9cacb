"""Readers of the field's data folders: VisA, MVTec AD, and the metadata lines of AA-CLIP.

VisA (Zou et al., arXiv 2207.14315; CC BY 4.0), as its archive unpacks:

    CLASS/Data/Images/{Normal,Anomaly}/*.JPG, CLASS/Data/Masks/Anomaly/*.png, split_csv/1cls.csv

MVTec AD (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0), and whatever is sorted like it (BTAD, MPDD, VisA's `1cls`):

    CLASS/train/good/*, CLASS/test/{good,DEFECT}/*, CLASS/ground_truth/DEFECT/*

Metadata: one JSON object per line, {"image_path", "label", "class_name", "mask_path"}, paths from the data folder on.

Nothing outside of the data folder is ever opened, and everything is checked to exist before the first image is read.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pitprop._errors import PitpropError

Split = Literal["train", "test"]
PICTURES = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One photograph on disk."""

    image: Path
    mask: Path | None
    """Not black where the defect is; None for a normal one."""
    label: int
    """1 for a defective one."""
    class_name: str
    """Name of the class, as its folder or its metadata line has it."""
    split: Split


def read_folder(root: Path | str) -> list[Entry]:
    """Every photograph of a data folder, in the order of class and path; the layout is told by what lies in it.

    Where VisA's `split_csv/1cls.csv` is missing, everything counts as `test`: the evaluation is zero-shot.

    Raises:
        PitpropError: No folder, neither layout, no photographs, a defective one without its mask, a table of splits
            that can't be read, or links that lead out of the folder.
    """
    root = _folder(root)
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    visa = [path for path in classes if (path / "Data" / "Images").is_dir()]
    mvtec = [path for path in classes if (path / "test").is_dir()]
    if not visa and not mvtec:
        raise PitpropError(
            f"{root} holds neither VisA nor MVTec AD.",
            means="There is no folder CLASS/Data/Images (VisA) and none called CLASS/test (MVTec AD) in it.",
            do="give the folder that holds the classes' folders.",
        )
    entries = list(_visa(root, visa)) if visa else list(_mvtec(root, mvtec))
    return _some(entries, root)


def read_metadata(lines: Path | str, root: Path | str) -> list[Entry]:
    """The photographs that a metadata file names, such as AA-CLIP's `dataset/metadata/VisA/full-shot.jsonl`.

    Args:
        lines: The `.jsonl` file.
        root: The data folder that its paths start from. All entries count as `train`.

    Raises:
        PitpropError: No such file or folder; no lines; a line that is no JSON object, lacks a key, has a label other
            than 0 and 1, names a file that isn't there or lies outside of `root`, or a defect without its mask.
    """
    lines, root = Path(lines), _folder(root)
    if not lines.is_file():
        raise PitpropError(f"There is no metadata file {lines}.")
    entries = []
    for number, line in enumerate(lines.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if line.strip():
            entries.append(_from_line(line, f"{lines}, line {number}", root))
    return _some(entries, lines)


def _from_line(line: str, place: str, root: Path) -> Entry:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise PitpropError(f"{place} is no JSON: {error}.", do="give one JSON object per line.") from error
    known = record if isinstance(record, dict) else {}
    missing = [key for key in ("image_path", "label", "class_name") if key not in known]
    if missing or known["label"] not in (0, 1):
        seen = f"lacks {', '.join(missing)}" if missing else f"has the label {known['label']!r}"
        raise PitpropError(
            f"{place} {seen}.", do='write {"image_path": ..., "label": 0 or 1, "class_name": ..., "mask_path": ...}.'
        )
    mask, label = known.get("mask_path"), int(known["label"])
    if label and not mask:
        raise PitpropError(f"{place} is of a defective photograph and names no mask.", do="give its `mask_path`.")
    return Entry(
        image=_inside(root, root / str(known["image_path"]), place),
        mask=_inside(root, root / str(mask), place) if label else None,
        label=label,
        class_name=str(known["class_name"]),
        split="train",
    )


def _visa(root: Path, classes: list[Path]) -> Iterator[Entry]:
    split = _visa_split(root / "split_csv" / "1cls.csv")
    for folder in classes:
        for kind, label in (("Normal", 0), ("Anomaly", 1)):
            for image in _pictures(folder / "Data" / "Images" / kind, root):
                mask = _mask(image, folder / "Data" / "Masks" / kind, image.stem, root) if label else None
                where = split.get(image.relative_to(root).as_posix(), "test")
                yield Entry(image=image, mask=mask, label=label, class_name=folder.name, split=where)


def _visa_split(path: Path) -> dict[str, Split]:
    """Path of an image -> its split; empty where there is no table."""
    if not path.is_file():
        return {}
    do = "use the table of VisA's archive, or take it away: then everything counts as `test`."
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = {"image", "split"} - set(rows.fieldnames or ())
            found: dict[str, Split] = {} if missing else {
                row["image"]: "train" if row["split"] == "train" else "test" for row in rows
            }  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PitpropError(f"{path} can't be read as a table in UTF-8: {error}.", do=do) from error
    if missing:
        raise PitpropError(f"{path} has no column {' and none '.join(f'`{name}`' for name in sorted(missing))}.", do=do)
    return found


def _mvtec(root: Path, classes: list[Path]) -> Iterator[Entry]:
    for folder in classes:
        for split in ("train", "test"):
            kinds = sorted(path for path in (folder / split).glob("*") if path.is_dir())
            for kind in kinds:
                for image in _pictures(kind, root):
                    label = int(kind.name != "good")
                    truth = folder / "ground_truth" / kind.name
                    mask = _mask(image, truth, f"{image.stem}_mask", root) if label else None
                    yield Entry(image=image, mask=mask, label=label, class_name=folder.name, split=split)


def _mask(image: Path, folder: Path, stem: str, root: Path) -> Path:
    """The mask called `stem`, or like the image itself, with any ending."""
    for name in (stem, image.stem):
        for ending in PICTURES:
            for found in (folder / f"{name}{ending}", folder / f"{name}{ending.upper()}"):
                if found.is_file():
                    return _inside(root, found, str(root))
    raise PitpropError(
        f"{image} is a defective photograph, and its mask is missing.",
        means="Pixel-wise losses and metrics need to know where the defect is.",
        do=f"put {stem}.png into {folder}, or take the photograph out.",
    )


def _pictures(folder: Path, root: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
    return [_inside(root, path, str(root)) for path in found]


def _inside(root: Path, path: Path, place: str) -> Path:
    """`path`, which must exist and lie in `root`, links followed."""
    try:
        resolved = path.resolve()
        there = resolved.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a name too long, links in a circle
        raise PitpropError(f"{place} names {str(path)!r}, which is no path: {error}.", do="mend the path.") from error
    if not resolved.is_relative_to(root):
        raise PitpropError(
            f"{place} leads to {resolved}, outside of the data folder {root}.",
            means="Only files inside of it are opened.",
            do="use paths relative to the data folder, and no links out of it.",
        )
    if not there:
        raise PitpropError(f"{place} names {path}, which isn't there.", do="check the data folder and its paths.")
    return resolved


def _folder(root: Path | str) -> Path:
    if not Path(root).is_dir():
        raise PitpropError(f"There is no data folder {root}.", do="give the folder that VisA or MVTec AD lies in.")
    return Path(root).resolve()


def _some(entries: list[Entry], place: Path) -> list[Entry]:
    if not entries:
        raise PitpropError(f"{place} names no photograph.", means="It has the right form, and nothing in it.")
    return entries
