"""The data: exact masks, held-out parts, and noise that is noise."""

import numpy as np
import pytest
import torch

from pitprop._errors import PitpropError
from pitprop.cases._photographs import photograph
from pitprop.cases.clip_anomaly.surfaces import CLASSES, DEFECTS, HELD_OUT, crop, draw, perlin, pool


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_the_image_inside_its_mask_and_nowhere_else(defect):
    rng = np.random.default_rng(0)
    for _ in range(5):
        image, other = crop("brick", "train", 64, rng), crop("moon", "train", 64, rng)
        changed, mask = defect(image, other, rng)
        assert set(np.unique(mask)) == {0.0, 1.0} and 0 < mask.mean() < 0.3
        assert np.array_equal(changed[mask == 0], image[mask == 0])
        assert (changed[mask == 1] != image[mask == 1]).mean() > 0.5


def test_a_sample_is_a_function_of_the_generator():
    one, two = (draw("grass", "train", 32, np.random.default_rng(3), defective=True) for _ in range(2))
    assert torch.equal(one.image, two.image) and torch.equal(one.mask, two.mask)
    assert one.image.shape == (3, 32, 32) and one.label == 1 and one.mask.sum() > 0


def test_training_and_held_out_crops_share_no_pixel():
    border = round((1 - HELD_OUT) * photograph("moon").shape[1])
    left, right = photograph("moon")[:, :border, 0], photograph("moon")[:, border:, 0]
    for part, own in (("train", left), ("held_out", right)):
        found = crop("moon", part, 48, np.random.default_rng(1))
        windows = np.lib.stride_tricks.sliding_window_view(own, 48, axis=1)[::1]
        rows = {row.tobytes() for strip in (windows, windows[..., ::-1]) for row in strip.reshape(-1, 48).copy()}
        assert found[0].copy().tobytes() in rows


def test_a_pool_is_half_defective_in_every_class():
    found = pool("held_out", 24, 32)
    for index in range(len(CLASSES)):
        assert found.label[found.class_index == index].float().mean() == 0.5
    assert torch.equal(found.mask.flatten(1).any(1), found.label.bool())


def test_perlin_noise_is_zero_at_the_nodes_and_smooth():
    noise = perlin(1024, 4, np.random.default_rng(0))
    assert np.abs(noise[::256, ::256]).max() < 0.02 and noise.max() > 0.5 and noise.min() < -0.5
    assert np.abs(np.diff(noise, axis=0)).max() < 0.05


def test_crops_that_do_not_fit_are_explained():
    with pytest.raises(PitpropError, match="The held_out part of `coins` is 303 x 115 pixels, under 200"):
        crop("coins", "held_out", 200, np.random.default_rng(0))
