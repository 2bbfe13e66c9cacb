"""What cases share: the cache, the photographs, the Fréchet distance."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from pitprop._errors import PitpropError
from pitprop.cases import _cache, _frechet
from pitprop.cases._cache import cached
from pitprop.cases._frechet import frechet_distance
from pitprop.cases._photographs import SCENES, SURFACES, patches, photograph


def test_something_is_made_once_per_settings_and_code(tmp_path, monkeypatch):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return {"w": torch.arange(4.0).reshape(2, 2).T}

    first = cached("net", {"steps": 1}, (_frechet,), make)
    assert torch.equal(first["w"], cached("net", {"steps": 1}, (_frechet,), make)["w"]) and len(made) == 1
    cached("net", {"steps": 2}, (_frechet,), make)
    cached("net", {"steps": 1}, (_cache,), make)
    assert len(made) == 3
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:20])
    cached("net", {"steps": 1}, (_frechet,), make)
    assert len(made) == 4 and not list(tmp_path.glob("*.partial"))


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("net", {}, (), fail)
    assert not list(Path(tmp_path).iterdir())


def test_what_is_made_for_the_cache_is_made_by_one_thread_and_the_others_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert cached("net", {}, (), lambda: {"threads": torch.tensor(torch.get_num_threads())})["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", SURFACES + SCENES)
def test_photographs_need_no_download(name):
    pixels = photograph(name)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.float32
    assert 0 <= pixels.min() < pixels.max() <= 1


def test_patches_are_places_of_the_photograph():
    found = patches("brick", 5, 16, np.random.default_rng(0))
    assert found.shape == (5, 16, 16, 3)
    assert np.array_equal(found, patches("brick", 5, 16, np.random.default_rng(0)))
    whole = patches("coffee", 1, 400, np.random.default_rng(0))[0]
    assert any(np.array_equal(photograph("coffee")[:, c : c + 400], whole) for c in range(201))
    with pytest.raises(PitpropError, match="did you mean `brick`"):
        photograph("bricks")
    with pytest.raises(PitpropError, match="crops of 513 don't fit"):
        patches("brick", 1, 513, np.random.default_rng(0))


def test_the_frechet_distance_is_the_textbooks():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 5)), rng.normal(size=(150, 5)) @ rng.normal(size=(5, 5)) + 1
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(root))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 3) == pytest.approx(45, rel=1e-9)  # equal covariances: the distance of the means


def test_a_frechet_distance_that_is_none_is_nan():
    assert np.isnan(frechet_distance(np.zeros((1, 3)), np.zeros((5, 3))))
    assert np.isnan(frechet_distance(np.full((4, 3), np.inf), np.zeros((5, 3))))
    assert frechet_distance(np.zeros((4, 3)), np.zeros((5, 3))) == 0  # no spread at all
