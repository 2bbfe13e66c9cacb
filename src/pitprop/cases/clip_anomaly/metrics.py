"""Anomaly maps and how good they are: pixel and image AUROC and average precision, and AUPRO."""

from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from pitprop.cases.clip_anomaly.losses import similarity_maps
from pitprop.cases.clip_anomaly.model import AdaptedCLIP, Seen
from pitprop.cases.clip_anomaly.sample import Batch, take

BLUR_SIZE, BLUR_SIGMA = 7, 1.0
"""Gaussian blur of the maps, as in the original."""
FALSE_POSITIVES = 0.3
"""False-positive rate up to which AUPRO integrates."""


class Detected(NamedTuple):
    """What the model says of images."""

    maps: Float[Tensor, "image height width"]
    """Anomaly score of each pixel, higher is more anomalous."""
    scores: Float[Tensor, " image"]
    """Anomaly score of each image: half the highest pixel, half the detection token."""


def blur(maps: Float[Tensor, "image height width"]) -> Float[Tensor, "image height width"]:
    """Gaussian blur, reflected at the border."""
    offset = torch.arange(BLUR_SIZE) - BLUR_SIZE // 2
    kernel = torch.exp(-(offset.float() ** 2) / (2 * BLUR_SIGMA**2)).to(maps)
    kernel = kernel / kernel.sum()
    padded = F.pad(maps[:, None], [BLUR_SIZE // 2] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[:, 0]


def detected(seen: Seen, text: Float[Tensor, "image embed 2"], size: int) -> Detected:
    """Maps as the original's test script makes them: (abnormal + 1 - normal) / 2, blurred, summed over the levels."""
    levels = similarity_maps(seen.patches, text, size)
    maps = blur(((levels[:, :, 1] + 1 - levels[:, :, 0]) / 2).flatten(0, 1)).unflatten(0, levels.shape[:2]).sum(0)
    low, high = maps.min(), maps.max()
    peaks = ((maps - low) / (high - low).clamp_min(1e-12)).flatten(1).amax(1)
    token = (seen.detection[:, None] @ text)[:, 0].softmax(-1)[:, 1]
    return Detected(maps, 0.5 * peaks + 0.5 * token)


@torch.no_grad()
def detect(model: AdaptedCLIP, images: Batch, *, cross_attention: bool = True, chunk: int = 64) -> Detected:
    """The model on a pool of images."""
    parts = [take(images, rows) for rows in torch.arange(len(images.label)).split(chunk)]
    seen = [model(part, cross_attention=cross_attention) for part in parts]
    whole = Seen(torch.cat([s.patches for s in seen], 1), torch.cat([s.detection for s in seen]))
    return detected(whole, model.text_features[images.class_index], images.mask.shape[-1])


def score(found: Detected, mask: Float[Tensor, "image height width"], label: Int[Tensor, " image"]) -> dict[str, float]:
    """`pixel_auroc`, `pixel_ap`, `image_auroc`, `image_ap` (scikit-learn) and `aupro`; NaN where only one class is."""
    pixels, wrong = found.maps.flatten().numpy(), (mask.flatten() > 0).numpy()
    return {
        "pixel_auroc": pixel_auroc(found, mask),
        "pixel_ap": _undefined_or(average_precision_score, wrong, pixels),
        "image_auroc": _undefined_or(roc_auc_score, label.numpy(), found.scores.numpy()),
        "image_ap": _undefined_or(average_precision_score, label.numpy(), found.scores.numpy()),
        "aupro": aupro(found.maps.numpy(), mask.numpy()),
    }


def pixel_auroc(found: Detected, mask: Float[Tensor, "image height width"]) -> float:
    """Area under the ROC curve over all pixels of all images; NaN where no pixel or every pixel is defective."""
    return _undefined_or(roc_auc_score, (mask.flatten() > 0).numpy(), found.maps.flatten().numpy())


def aupro(
    maps: Float[ndarray, "image height width"],
    mask: Float[ndarray, "image height width"],
    most: float = FALSE_POSITIVES,
) -> float:
    """Area under the per-region overlap, over the false-positive rate from 0 to `most`; range 0 to 1, NaN undefined.

    Per-region overlap: share of a connected defect over the threshold, mean over the defects, whatever their size.
    Pixels of equal score cross the threshold together.

    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021; regions are 8-connected.
    """
    weights, normal = np.zeros(mask.shape), mask == 0
    num_regions = 0
    for image, weight in zip(mask, weights, strict=True):
        regions, found = cast(tuple[ndarray, int], ndimage.label(image > 0, structure=np.ones((3, 3))))
        num_regions += found
        if found:
            areas = np.bincount(regions.ravel())
            weight[regions > 0] = 1 / areas[regions[regions > 0]]
    if num_regions == 0 or not normal.any():
        return float("nan")
    order = np.argsort(-maps.ravel(), kind="stable")
    ends = np.append(np.flatnonzero(np.diff(maps.ravel()[order])), maps.size - 1)
    rate = np.append(0, np.cumsum(normal.ravel()[order])[ends] / normal.sum())
    overlap = np.append(0, np.cumsum(weights.ravel()[order])[ends] / num_regions)
    inside = rate <= most
    rate, overlap = np.append(rate[inside], most), np.append(overlap[inside], np.interp(most, rate, overlap))
    return float(np.trapezoid(overlap, rate) / most)


def _undefined_or(measure, truth: ndarray, scores: ndarray) -> float:
    return float(measure(truth, scores)) if len(np.unique(truth)) == 2 else float("nan")
