"""The readers of VisA, MVTec AD and metadata lines: what they find, and what they refuse in words."""

import numpy as np
import pytest
import torch
from clip_folders import SIDE, mask, metadata, mvtec, picture, visa
from PIL import Image

from pitprop import PitpropError
from pitprop.cases.clip_anomaly.folders import Entry, read_folder, read_metadata
from pitprop.cases.clip_anomaly.loading import augmented, load


def test_visa(tmp_path):
    entries = read_folder(visa(tmp_path))
    assert len(entries) == 12
    assert {e.class_name for e in entries} == {"candle", "pcb1"}
    assert {e.split for e in entries} == {"test"}  # without a table
    for e in entries:
        assert (e.mask is not None) == (e.label == 1) == ("Anomaly" in str(e.image))
        assert e.mask is None or e.mask.stem == e.image.stem


def test_visa_with_its_table_of_splits(tmp_path):
    entries = read_folder(visa(tmp_path, table=True))
    assert sorted(e.image.name for e in entries if e.split == "train") == ["0000.JPG", "0000.JPG"]
    assert all(e.label == 0 for e in entries if e.split == "train")


def test_mvtec(tmp_path):
    entries = read_folder(mvtec(tmp_path))
    assert [(e.split, e.label) for e in entries] == [("train", 0)] * 2 + [("test", 1)] * 2 + [("test", 0)] * 2
    assert [e.mask.name for e in entries if e.mask] == ["000_mask.png", "001_mask.png"]


def test_metadata(tmp_path):
    root = mvtec(tmp_path / "data")
    good = {"image_path": "bottle/test/good/000.png", "label": 0, "class_name": "bottle", "mask_path": ""}
    bad = {"image_path": "bottle/test/broken_large/000.png", "label": 1, "class_name": "bottle"}
    bad["mask_path"] = "bottle/ground_truth/broken_large/000_mask.png"
    entries = read_metadata(metadata(tmp_path / "full-shot.jsonl", good, bad), root)
    assert [(e.label, e.mask is None, e.split) for e in entries] == [(0, True, "train"), (1, False, "train")]


@pytest.mark.parametrize("size", [SIDE, 24])
def test_a_sample_is_what_lies_on_disk(tmp_path, size):
    entry = next(e for e in read_folder(visa(tmp_path)) if e.label)
    sample = load(entry, size)
    assert sample.image.shape == (3, size, size) and sample.image.dtype == torch.float32
    assert 0 <= sample.image.min() and sample.image.max() <= 1
    assert set(sample.mask.unique().tolist()) == {0.0, 1.0}  # VisA's small numbers are defects too
    assert float(sample.mask.mean()) == pytest.approx((12 / SIDE) ** 2, abs=0.02)
    assert sample.image.mean(0)[sample.mask > 0].mean() > sample.image.mean(0)[sample.mask == 0].mean() + 0.3
    normal = next(e for e in read_folder(tmp_path) if not e.label)
    assert load(normal, size).mask.sum() == 0


def test_masks_of_other_modes_are_read_alike(tmp_path):
    image = picture(tmp_path / "a.png", defect=True)
    grey = Image.open(mask(tmp_path / "L.png"))
    found = []
    for mode in ("L", "1", "P", "RGB", "RGBA"):
        converted = grey.convert(mode)
        converted.save(tmp_path / f"{mode}.png")
        entry = Entry(image=image, mask=tmp_path / f"{mode}.png", label=1, class_name="a", split="test")
        found.append(load(entry, SIDE).mask)
    assert all(torch.equal(found[0], other) for other in found)


def test_augmentation_moves_image_and_mask_together_and_hangs_on_its_generator_alone(tmp_path):
    entry = next(e for e in read_folder(visa(tmp_path)) if e.label)
    samples = [load(entry, SIDE, np.random.default_rng(seed)) for seed in range(30)]
    assert torch.equal(samples[0].image, load(entry, SIDE, np.random.default_rng(0)).image)
    assert len({tuple(s.mask.flatten().tolist()) for s in samples}) > 10
    for sample in samples:
        if sample.mask.sum() > 20:  # the defect is the brightest part, wherever it went
            brightness = sample.image.mean(0)
            assert brightness[sample.mask > 0].mean() > brightness[sample.mask == 0].mean()


def test_movements_stay_in_their_ranges():
    image = Image.fromarray(np.full((100, 100, 3), 128, np.uint8))
    marked = np.zeros((100, 100), np.uint8)
    marked[49:52, 49:52] = 255
    for seed in range(50):
        moved = np.asarray(augmented(image, Image.fromarray(marked), np.random.default_rng(seed))[1])
        centre = np.argwhere(moved > 0).mean(0)
        assert abs(centre - 50).max() <= 15 + 2  # a turn about the centre leaves it there


def break_mask(root):
    (root / "candle" / "Data" / "Masks" / "Anomaly" / "001.png").unlink()


def break_by_link(root):
    outside = picture(root.parent / "outside.png")
    (root / "candle" / "Data" / "Images" / "Normal" / "9.png").symlink_to(outside)


def empty(root):
    for path in root.rglob("*.JPG"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [(break_mask, "001.JPG is a defective photograph, and its mask is missing"), (break_by_link, "outside of the data"),
     (empty, "names no photograph")],
)  # fmt: skip
def test_what_a_data_folder_must_not_be(tmp_path, change, said):
    root = visa(tmp_path / "data")
    change(root)
    with pytest.raises(PitpropError, match=said):
        read_folder(root)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(PitpropError, match="There is no data folder"):
        read_folder(tmp_path / "absent")
    with pytest.raises(PitpropError, match="neither VisA nor MVTec AD"):
        read_folder(tmp_path)
    with pytest.raises(PitpropError, match="There is no metadata file"):
        read_metadata(tmp_path / "absent.jsonl", tmp_path)


GOOD = {"image_path": "bottle/test/good/000.png", "label": 0, "class_name": "bottle", "mask_path": ""}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD | {"image_path": "../secret.png"}, "line 2 leads to .*secret.png, outside of the data folder"),
        (GOOD | {"image_path": "/etc/hostname"}, "outside of the data folder"),
        (GOOD | {"image_path": "bottle/none.png"}, "which isn't there"),
        (GOOD | {"label": 1}, "names no mask"),
        (GOOD | {"label": 1, "mask_path": "../m.png"}, "outside of the data folder"),
        (GOOD | {"label": "bad"}, "has the label 'bad'"),
        ({"image_path": "x.png"}, "lacks label, class_name"),
        ([1, 2], "lacks image_path"),
    ],
)
def test_what_a_metadata_line_must_not_be(tmp_path, line, said):
    root = mvtec(tmp_path / "data")
    with pytest.raises(PitpropError, match=said):
        read_metadata(metadata(tmp_path / "m.jsonl", GOOD, line), root)


def test_lines_that_are_no_json_and_no_lines(tmp_path):
    root = mvtec(tmp_path / "data")
    (tmp_path / "m.jsonl").write_text("{image")
    with pytest.raises(PitpropError, match="line 1 is no JSON"):
        read_metadata(tmp_path / "m.jsonl", root)
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(PitpropError, match="names no photograph"):
        read_metadata(tmp_path / "m.jsonl", root)


def test_files_that_are_no_images_and_masks_of_another_size(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    broken = Entry(image=tmp_path / "a.png", mask=None, label=0, class_name="a", split="test")
    with pytest.raises(PitpropError, match="can't be read as an image"):
        load(broken, SIDE)
    image, other = picture(tmp_path / "b.png"), mask(tmp_path / "m.png", side=SIDE + 1)
    with pytest.raises(PitpropError, match=f"{SIDE + 1} x {SIDE + 1} pixels, its photograph b.png {SIDE} x {SIDE}"):
        load(Entry(image=image, mask=other, label=1, class_name="a", split="test"), SIDE)


@pytest.mark.parametrize(
    ("table", "seen"),
    [
        (b"object,split,label\n", "has no column `image`"),
        (b"", "has no column `image` and none `split`"),
        (b"object,split,label,image,mask\npcb\xff,train,normal,a.JPG,\n", "can't be read as a table in UTF-8"),
        (b"image,split\n" + b"x" * 200_000 + b",train\n", "can't be read as a table in UTF-8"),
    ],
)
def test_a_table_of_splits_that_cannot_be_read_is_named(tmp_path, table, seen):
    path = visa(tmp_path, table=True) / "split_csv" / "1cls.csv"
    path.write_bytes(table)
    with pytest.raises(PitpropError) as refused:
        read_folder(tmp_path)
    assert str(path) in refused.value.seen and seen in refused.value.seen and "take it away" in refused.value.do


def test_a_table_may_begin_with_a_byte_order_mark(tmp_path):
    path = visa(tmp_path, table=True) / "split_csv" / "1cls.csv"
    path.write_bytes(b"\xef\xbb\xbf" + b"image,split\n" + b"candle/Data/Images/Normal/0001.JPG,train\n")
    assert [e.image.name for e in read_folder(tmp_path) if e.split == "train"] == ["0001.JPG"]


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000, "\ud800.png"])
def test_a_path_that_is_none_is_named_with_its_line(tmp_path, name):
    root = mvtec(tmp_path / "data")
    lines = metadata(tmp_path / "m.jsonl", {"image_path": name, "label": 0, "class_name": "bottle"})
    with pytest.raises(PitpropError, match=r"line 1 names .*, which is no path") as refused:
        read_metadata(lines, root)
    str(refused.value).encode()  # a terminal can show it


def test_a_line_nested_too_deep_is_no_json(tmp_path):
    lines = tmp_path / "m.jsonl"
    lines.write_text("[" * 100_000)
    with pytest.raises(PitpropError, match="line 1 is no JSON"):
        read_metadata(lines, mvtec(tmp_path / "data"))
