"""A base at full size is used again where it is the same one, and neither used nor lost where it isn't."""

from dataclasses import replace

import pytest
import torch
from clip_folders import picture, visa

from pitprop import PitpropError
from pitprop.cases.clip_anomaly.folders import read_folder
from pitprop.cases.clip_anomaly.kept import digest_of_clip, digest_of_photographs, keep, kept

FROM = {"clip": "a", "steps": "1"}


def test_what_is_kept_comes_back_and_no_half_file_stays(tmp_path):
    path = tmp_path / "none.safetensors"
    assert kept(path, FROM) is None
    weights = {"image_adapter.x": torch.arange(3.0)}
    keep(weights, path, FROM)
    found = kept(path, FROM)
    assert found is not None and torch.equal(found["image_adapter.x"], weights["image_adapter.x"])
    assert [p.name for p in tmp_path.iterdir()] == ["none.safetensors"]


def test_an_interrupted_write_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "none.safetensors"
    keep({"x": torch.ones(1)}, path, FROM)
    before = path.read_bytes()

    def interrupted(weights, partial, metadata):
        partial.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("pitprop.cases.clip_anomaly.kept.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep({"x": torch.zeros(1)}, path, FROM)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("now", "seen"),
    [
        ({**FROM, "steps": "6"}, "steps 1, now 6."),
        ({**FROM, "clip": "b", "steps": "6"}, "clip a, now b; steps 1, now 6."),
        ({**FROM, "seed": "0"}, "seed unknown, now 0."),
    ],
)
def test_a_base_of_other_settings_is_refused_and_stays(tmp_path, now, seen):
    path = tmp_path / "none.safetensors"
    keep({"x": torch.ones(1)}, path, FROM)
    with pytest.raises(PitpropError) as refused:
        kept(path, now)
    assert refused.value.seen.endswith(f"other settings: {seen}") and "delete the file" in refused.value.do
    assert path.exists()


@pytest.mark.parametrize("size", [0, 5, -1])
def test_a_damaged_file_is_named(tmp_path, size):
    path = tmp_path / "none.safetensors"
    keep({"x": torch.ones(100)}, path, FROM)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(PitpropError, match=r"none\.safetensors can't be read: .*\n.*delete the file"):
        kept(path, FROM)


def test_the_digests_tell_photographs_and_weights_apart(tmp_path):
    root = visa(tmp_path / "data")
    entries = read_folder(root)
    first = digest_of_photographs(entries, root)
    assert first == digest_of_photographs(read_folder(root), root) != digest_of_photographs(entries[1:], root)
    assert first != digest_of_photographs([replace(entries[0], label=1), *entries[1:]], root)
    picture(entries[0].image, seed=9, defect=True)
    assert first != digest_of_photographs(entries, root)
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "config.json").write_text("{}")
    (clip / "model.safetensors").write_bytes(b"one")
    first = digest_of_clip(clip)
    (clip / "model.safetensors").write_bytes(b"two")
    assert first != digest_of_clip(clip)
