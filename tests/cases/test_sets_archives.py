"""Archives and pickles from others are read only where they are harmless."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion.archives import CIFAR_ROW, cifar100, omniglot


def archive(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for member, content in members:
            file.writestr(member, content)
    return path


def drawing(stroke):
    image = Image.new("1", (105, 105), 1)
    image.paste(0, stroke)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_drawings_come_by_character_in_their_size_and_range(tmp_path):
    path = archive(
        tmp_path / "small.zip",
        [(f"images/Greek/character01/0001_0{i}.png", drawing((0, 0, 52, 105))) for i in (1, 2)]
        + [("images/Greek/readme.txt", b"no drawing")],
    )
    found = omniglot(path)
    assert list(found) == ["Greek/character01"] and found["Greek/character01"].shape == (2, 1, 28, 28)
    image = found["Greek/character01"][0, 0]
    np.testing.assert_allclose([image[:, :13].min(), image[:, 15:].max()], [1, -1])  # ink is 1


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "..\\out.png", "C:out.png"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(PitpropError, match="leads out of the archive"):
        omniglot(archive(tmp_path / "bad.zip", [(name, b"")]))


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("a/b/c.png")
    link.external_attr = 0o120777 << 16
    with pytest.raises(PitpropError, match="is a link"):
        omniglot(archive(tmp_path / "bad.zip", [(link, "/etc/passwd")]))


def test_a_small_file_that_says_it_is_a_huge_image_is_refused(tmp_path):
    small = drawing((0, 0, 52, 105))
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + small[24:29]
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(PitpropError, match=r"can't be read.*900000000 pixels"):
        omniglot(archive(tmp_path / "bomb.zip", [("a/b/c.png", bomb)]))


def test_large_members_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(PitpropError, match=r"`a/b/c.png` has 2000000 bytes"):
        path = tmp_path / "bad.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a/b/c.png", bytes(2_000_000))
        omniglot(path)


@pytest.mark.parametrize("content", [b"not a zip", None])
def test_what_is_no_archive_is_explained(tmp_path, content):
    path = tmp_path / "x.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PitpropError, match="can't be read"):
        omniglot(path)


def test_the_published_drawings():
    root = os.environ.get("PITPROP_DATA")
    path = Path(root or "", "omniglot-small", "python", "images_background_small1.zip")
    if not root or not path.is_file():
        pytest.skip("set PITPROP_DATA to the folder of omniglot-small")
    found = omniglot(path)
    assert len(found) == 136 and {images.shape for images in found.values()} == {(20, 1, 28, 28)}


def rows(rng):
    return rng.integers(0, 256, (6, CIFAR_ROW - 2), dtype=np.uint8), [3, 3, 7, 7, 7, 99]


@pytest.mark.parametrize("protocol", [2, 4])
def test_both_layouts_of_cifar_give_the_same_images(tmp_path, protocol):
    pixels, labels = rows(np.random.default_rng(0))
    content = {b"data": pixels, b"fine_labels": labels, b"coarse_labels": [0] * 6, b"filenames": [b"a.png"] * 6}
    (tmp_path / "train").write_bytes(pickle.dumps(content, protocol))
    binary = np.concatenate([np.stack([np.zeros(6, np.uint8), np.array(labels, np.uint8)], 1), pixels], 1)
    (tmp_path / "train.bin").write_bytes(binary.tobytes())
    python, raw = cifar100(tmp_path / "train"), cifar100(tmp_path / "train.bin")
    assert list(python) == list(raw) == [3, 7, 99]
    for k in raw:
        np.testing.assert_array_equal(python[k], raw[k])
    np.testing.assert_allclose(raw[99][0].ravel(), pixels[5] / 127.5 - 1, rtol=1e-5, atol=1e-6)


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path):
    (tmp_path / "train").write_bytes(pickle.dumps({b"data": Malicious(tmp_path / "made")}))
    with pytest.raises(PitpropError, match=r"asks for `posix.mkdir`.*\n.*run code"):
        cifar100(tmp_path / "train")
    assert not (tmp_path / "made").exists()


def test_an_array_of_objects_is_refused(tmp_path):
    (tmp_path / "train").write_bytes(pickle.dumps({b"data": np.array([{}], object)}, 2))
    with pytest.raises(PitpropError, match="array of objects"):
        cifar100(tmp_path / "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no pickle", "is no file of CIFAR-100"),
        (pickle.dumps({b"data": [[1]], b"fine_labels": [1]}), "holds int64"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [b"a", b"b"]}), r"labels that are \|S1"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": 7}), r"of shape \(\)\."),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [1.5, 2.0]}), "float64"),
    ],
)
def test_another_file_is_explained(tmp_path, content, message):
    (tmp_path / "train").write_bytes(content)
    with pytest.raises(PitpropError, match=message):
        cifar100(tmp_path / "train")


def test_a_binary_file_cut_short_is_explained(tmp_path):
    (tmp_path / "train.bin").write_bytes(bytes(CIFAR_ROW + 1))
    with pytest.raises(PitpropError, match=r"3075 bytes.*multiple of 3074"):
        cifar100(tmp_path / "train.bin")
