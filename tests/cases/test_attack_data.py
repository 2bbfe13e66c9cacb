"""Images, classifiers and what is measured of an attack."""

import math

import pytest
import torch

from pitprop.cases.timestep_attack import classifiers, data, denoiser, streams
from pitprop.cases.timestep_attack.classifiers import Classifiers
from pitprop.cases.timestep_attack.metrics import PER_IMAGE, frechet, per_image


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))
    monkeypatch.setattr(classifiers, "STEPS", 30)


@pytest.mark.parametrize(("source", "channels"), [("digits", 1), ("photographs", 3)])
def test_both_sources_have_ten_labels_in_both_parts(source, channels):
    for part in data.load(source):
        assert part.images.shape[1:] == (channels, 8, 8) and len(part.images) == len(part.labels) > 300
        assert part.images.min() >= -1 and part.images.max() <= 1
        assert sorted(part.labels.unique().tolist()) == list(range(10))


def test_the_stream_holds_what_the_surrogate_knows_and_test_images_first(quick):
    known = classifiers.load("digits")
    chosen = streams.stream_of_images("digits", known, 2000, seed=1)
    assert len(chosen.labels) == 2000 and classifiers.correct(known, chosen.images, chosen.labels).all()
    test = data.load("digits")[1]
    assert (test.images.flatten(1) == chosen.images[0].flatten()).all(1).any()
    again = streams.stream_of_images("digits", known, 50, seed=1)
    assert torch.equal(again.images, chosen.images[:50])
    other = streams.stream_of_images("digits", known, 50, seed=2)
    assert not torch.equal(other.images, again.images)


def test_classifiers_of_different_kinds_are_trained_once_and_frozen(quick, monkeypatch):
    torch.manual_seed(5)
    known = classifiers.load("digits")
    rng = torch.get_rng_state()
    monkeypatch.setattr(classifiers, "_fit", lambda *_: pytest.fail("the cache was not used"))
    again = classifiers.load("digits")
    assert torch.equal(rng, torch.get_rng_state())
    test = data.load("digits")[1]
    assert tuple(known.transfer) == classifiers.TRANSFER
    for name, label in known.transfer.items():
        assert (label(test.images) == test.labels).float().mean() > 0.3, name
        assert torch.equal(label(test.images), again.transfer[name](test.images))
    assert not any(p.requires_grad for p in known.surrogate.parameters())
    assert known.features(test.images[:3]).shape == (3, 64)


def test_the_denoiser_is_trained_once_and_learns(tmp_path, monkeypatch):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))
    settings = denoiser.DenoiserSettings(steps=3, channels=8, batch_size=8)
    one = denoiser.load(settings)
    monkeypatch.setattr(denoiser, "train", lambda _: pytest.fail("the cache was not used"))
    two = denoiser.load(settings)
    x, context = torch.randn(1, 1, 8, 8), one.context(torch.tensor([1]))
    assert torch.equal(one.predict_noise(x, 1, context), two.predict_noise(x, 1, context))


def loud(threshold: float):
    """Label 1 where the mean pixel is over `threshold`."""
    return lambda images: (images.mean((1, 2, 3)) > threshold).long()


def test_what_is_measured_of_each_image():
    def surrogate(images):
        return torch.stack([-images.mean((1, 2, 3)), images.mean((1, 2, 3))], 1)

    known = Classifiers(surrogate, {"a": loud(0.0), "b": loud(0.75), "c": loud(-2.0)}, torch.nn.Flatten())  # type: ignore[arg-type]
    images, adversarial = torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 2, 2), 0.5)
    adversarial[1] = -0.5
    found = per_image(known, adversarial, images, torch.tensor([1, 1]))
    assert tuple(found) == PER_IMAGE
    assert found["success"].tolist() == [0, 1]
    assert found["transfer"].tolist() == [0, 0.5]  # `a` changes its mind, `b` never knew, `c` says 1 to everything
    assert (float(found["l1"][1]), float(found["l2"][1]), float(found["linf"][1])) == (2.0, 1.0, 0.5)
    nobody = per_image(known._replace(transfer={"b": loud(0.75)}), adversarial, images, torch.tensor([1, 1]))
    assert all(math.isnan(value) for value in nobody["transfer"].tolist())
    assert frechet(known, images, images) == pytest.approx(0, abs=1e-9)
