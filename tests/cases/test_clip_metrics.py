"""AUPRO against a twin that goes through thresholds one by one; maps and blur."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from pitprop.cases.clip_anomaly.metrics import Detected, aupro, blur, detected, pixel_auroc
from pitprop.cases.clip_anomaly.model import Seen


def slow_aupro(maps: np.ndarray, mask: np.ndarray, most: float) -> float:
    """Every threshold in turn, every region by itself."""
    points = [(0.0, 0.0)]
    numbered = [np.asarray(label(image, connectivity=2)) for image in mask]
    regions = [(i, found == r) for i, found in enumerate(numbered) for r in range(1, found.max() + 1)]
    for threshold in sorted(set(maps.ravel()), reverse=True):
        over = maps >= threshold
        overlaps = [over[i][region].mean() for i, region in regions]
        points.append((float(over[mask == 0].mean()), float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= most:
            break
        if x1 > most:
            y1 = y0 + (y1 - y0) * (most - x0) / (x1 - x0)
            x1 = most
        area += (x1 - x0) * (y0 + y1) / 2
    return area / most


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([3, 50]), st.sampled_from([0.1, 0.3, 1.0]))
def test_aupro_is_its_definition(seed, values, most):
    rng = np.random.default_rng(seed)
    mask = (rng.random((2, 6, 6)) < 0.2).astype(float)
    mask[0, 0, 0], mask[0, 5, 5] = 1, 0
    maps = rng.integers(values, size=mask.shape).astype(float)
    assert aupro(maps, mask, most) == pytest.approx(slow_aupro(maps, mask, most), abs=1e-12)


def test_aupro_of_the_mask_itself_is_one_and_small_regions_count_as_much_as_large_ones():
    mask = np.zeros((1, 20, 20))
    mask[0, :5, :10], mask[0, 15, 15] = 1, 1
    assert aupro(mask, mask) == pytest.approx(1.0)
    only_large = mask.copy()
    only_large[0, 15, 15] = -1
    assert aupro(only_large, mask) == pytest.approx(0.5 + 0.5 * 0.0, abs=0.01)


def test_without_a_defect_it_is_undefined():
    nothing = np.zeros((1, 4, 4))
    assert math.isnan(aupro(nothing, nothing))
    assert math.isnan(pixel_auroc(Detected(torch.zeros(1, 4, 4), torch.zeros(1)), torch.zeros(1, 4, 4)))


def test_blur_keeps_a_constant_and_is_symmetric():
    assert torch.allclose(blur(torch.full((1, 9, 9), 3.0)), torch.tensor(3.0))
    point = torch.zeros(1, 15, 15)
    point[0, 7, 7] = 1
    found = blur(point)[0]
    assert found.sum() == pytest.approx(1, abs=1e-6) and torch.allclose(found, found.T)
    assert found[7, 8] / found[7, 7] == pytest.approx(math.exp(-0.5), rel=1e-4)


def test_maps_are_high_where_patches_are_like_the_abnormal_text():
    text = torch.eye(2)[None]
    patches = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    patches[3] = torch.tensor([0.0, 1.0])
    seen = Seen(patches[None, None].repeat(2, 1, 1, 1), torch.tensor([[0.0, 1.0]]))
    found = detected(seen, text, 16)
    assert found.maps.shape == (1, 16, 16) and found.maps[0, -1, -1] == pytest.approx(2.0, abs=1e-3)
    assert found.maps[0, 0, 0] == pytest.approx(0.0, abs=1e-3)
    assert found.scores[0] == pytest.approx(0.5 + 0.5 * torch.softmax(torch.tensor([0.0, 1.0]), 0)[1].item(), abs=1e-5)
