"""A small CLIP, pre-trained here on photographs and captions that we make, and kept on disk.

Contrastive, as CLIP is: each image's caption against the captions of the other images and the other way round. Pairs
with the same class and state count as right too, because their captions can't be told apart.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pitprop.cases._cache import cached
from pitprop.cases.clip_anomaly import prompts as prompts_module
from pitprop.cases.clip_anomaly import surfaces, towers
from pitprop.cases.clip_anomaly.options import ClipSize
from pitprop.cases.clip_anomaly.prompts import WORDS, prompts
from pitprop.cases.clip_anomaly.towers import SmallCLIP


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """How the small CLIP comes about."""

    size: ClipSize = field(default_factory=ClipSize)
    steps: int = 400
    batch_size: int = 24
    num_images: int = 1200
    """Different images."""
    lr: float = 1e-3
    seed: int = 1000


def blank(size: ClipSize) -> SmallCLIP:
    """An untrained CLIP that knows the prompts' words and the surfaces' names."""
    return SmallCLIP(size, (*WORDS, *surfaces.CLASSES))


def pretrained(settings: Pretraining | None = None) -> SmallCLIP:
    """The small CLIP, frozen, in evaluation mode; trained where the cache has none."""
    settings = settings or Pretraining()
    model = blank(settings.size)
    code = (surfaces, towers, prompts_module)
    model.load_state_dict(cached("clip-anomaly-towers", settings, code, lambda: train(settings).state_dict()))
    return model.eval().requires_grad_(False)


def contrastive_loss(
    image: Float[Tensor, "pair embed"], text: Float[Tensor, "pair embed"], same: Int[Tensor, " pair"], scale: Tensor
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy; pairs with equal `same` share the target."""
    logits = scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    target = (same[:, None] == same[None]).float()
    target = target / target.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(settings: Pretraining) -> SmallCLIP:
    """Pre-trains from the settings alone; leaves torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model, scale = blank(settings.size), nn.Parameter(torch.tensor(2.0))
        rng = np.random.default_rng(settings.seed)
        images = surfaces.pool("train", settings.num_images, settings.size.image_size, settings.seed)
        captions = [model.text.tokenise(texts) for name in surfaces.CLASSES for texts in prompts(name)]
        optimizer = torch.optim.Adam([*model.parameters(), scale], lr=settings.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        for _ in range(settings.steps):
            rows = torch.from_numpy(rng.integers(settings.num_images, size=settings.batch_size))
            same = 2 * images.class_index[rows] + images.label[rows]
            ids = torch.stack([captions[which][rng.integers(len(captions[which]))] for which in same.tolist()])
            optimizer.zero_grad()
            contrastive_loss(model.visual(images.image[rows]), model.text(ids), same, scale).backward()
            optimizer.step()
            schedule.step()
    return model
