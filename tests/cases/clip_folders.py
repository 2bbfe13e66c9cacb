"""Data folders as VisA and MVTec AD lay them out, with pictures made here."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 40


def picture(path: Path, seed: int = 0, defect: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(90, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    if defect:
        pixels[8:20, 8:20] = 250
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, value: int = 255, side: int = SIDE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side), np.uint8)
    pixels[8:20, 8:20] = value
    Image.fromarray(pixels).save(path)
    return path


def visa(root: Path, classes: tuple[str, ...] = ("candle", "pcb1"), num: int = 3, table: bool = False) -> Path:
    """As the archive unpacks; masks hold small numbers, as VisA's do."""
    rows = []
    for name in classes:
        data = root / name / "Data"
        for i in range(num):
            normal = picture(data / "Images" / "Normal" / f"{i:04}.JPG", i)
            picture(data / "Images" / "Anomaly" / f"{i:03}.JPG", i, defect=True)
            mask(data / "Masks" / "Anomaly" / f"{i:03}.png", value=1 + i)
            row = {"object": name, "split": "test" if i else "train", "label": "normal", "mask": ""}
            rows.append(row | {"image": normal.relative_to(root).as_posix()})
    if table:
        (root / "split_csv").mkdir()
        with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["object", "split", "label", "image", "mask"])
            writer.writeheader()
            writer.writerows(rows)
    return root


def mvtec(root: Path, name: str = "bottle") -> Path:
    for i in range(2):
        picture(root / name / "train" / "good" / f"{i:03}.png", i)
        picture(root / name / "test" / "good" / f"{i:03}.png", i)
        picture(root / name / "test" / "broken_large" / f"{i:03}.png", i, defect=True)
        mask(root / name / "ground_truth" / "broken_large" / f"{i:03}_mask.png")
    return root


def metadata(path: Path, *records: dict) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
