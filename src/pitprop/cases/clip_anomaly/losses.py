"""The losses of AA-CLIP: focal and dice on the anomaly maps of four levels, cross-entropy on the detection token."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.sample import Batch

TEMPERATURE = 100.0
"""Factor of the patch similarities. The detection's similarities have none, in the original neither."""
SMOOTH = 1e-5
"""Label smoothing of the focal loss."""
ORTHOGONAL = 0.1
"""Weight of the squared cosine between normal and abnormal text features in stage 1."""


def similarity_maps(
    patches: Float[Tensor, "level image patch embed"],
    text: Float[Tensor, "image embed 2"],
    size: int,
) -> Float[Tensor, "level image 2 size size"]:
    """Probabilities of normal and abnormal per pixel, bilinear from the patch grid."""
    logits = TEMPERATURE * patches @ text
    grid = round(logits.shape[-2] ** 0.5)
    maps = logits.transpose(-1, -2).reshape(-1, 2, grid, grid)
    maps = F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=True).softmax(1)
    return maps.unflatten(0, patches.shape[:2])


def focal(
    maps: Float[Tensor, "*batch 2 height width"], mask: Float[Tensor, "*batch height width"], gamma: float = 2.0
) -> Float[Tensor, "*batch"]:
    """Mean over the pixels of `-(1 - p)^gamma ln p`, p of the true class, smoothed.

    Source: Lin et al., arXiv 1708.02002, without alpha.
    """
    p = torch.where(mask > 0, maps[..., 1, :, :], maps[..., 0, :, :])
    p = p * (1 - 2 * SMOOTH) + SMOOTH
    return (-((1 - p) ** gamma) * p.log()).mean((-1, -2))


def dice(
    map_: Float[Tensor, "*batch height width"], mask: Float[Tensor, "*batch height width"]
) -> Float[Tensor, "*batch"]:
    """One minus twice the overlap over the sum, each plus 1.

    Source: Milletari et al., V-Net, arXiv 1606.04797.
    """
    overlap = 2 * (map_ * mask).sum((-1, -2)) + 1
    return 1 - overlap / (map_.sum((-1, -2)) + mask.sum((-1, -2)) + 1)


def segmentation(
    maps: Float[Tensor, "level image 2 height width"], mask: Float[Tensor, "image height width"]
) -> Float[Tensor, " level"]:
    """Focal loss plus both dice losses, mean over the images, per level."""
    mask = mask.expand(len(maps), *mask.shape)
    both = dice(maps[:, :, 0], 1 - mask) + dice(maps[:, :, 1], mask)
    return (focal(maps, mask) + both).mean(1)


def loss(model: AdaptedCLIP, batch: Batch, *, cross_attention: bool = True) -> Float[Tensor, ""]:
    """The loss of stage 2: cross-entropy of the detection token plus the segmentation loss summed over the levels."""
    seen = model(batch, cross_attention=cross_attention)
    text = model.text_features[batch.class_index]
    detection = F.cross_entropy((seen.detection[:, None] @ text)[:, 0], batch.label)
    return detection + segmentation(similarity_maps(seen.patches, text, batch.mask.shape[-1]), batch.mask).sum()


def text_loss(model: AdaptedCLIP, batch: Batch, *, original: bool = False) -> Float[Tensor, ""]:
    """The loss of stage 1: segmentation with frozen image features, and normal and abnormal kept apart.

    Args:
        model: Its text side is trained.
        batch: With `features`, and with `context` for the text cross-attention.
        original: The original's loop over the levels says `loss = ...` where `loss += ...` is meant, so that only the
            last level trains (corrected later in its history, ecb6bd3).
    """
    assert batch.features is not None  # narrows the type: stage 1 always computes them
    features = model.read(batch.context)[0]
    text = features[batch.class_index]
    per_level = segmentation(similarity_maps(batch.features, text, batch.mask.shape[-1]), batch.mask)
    per_level = per_level + ORTHOGONAL * (text[..., 0] * text[..., 1]).sum(-1).mean() ** 2
    return per_level[-1] if original else per_level.sum()
