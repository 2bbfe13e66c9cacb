"""The full size: Stable Diffusion 2 base, an ImageNet classifier and ImageNet-compatible images, from local folders.

20 DDIM steps of which the last 5 are attacked, 30 iterations, guidance 2.5, weights 10, 10 000 and 100
(`settings.PAPER`), 224 x 224 pixels: the original's numbers. One image per attack, with a row per stream of weights.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForImageClassification

from pitprop._errors import PitpropError
from pitprop.cases.timestep_attack.attack import attack
from pitprop.cases.timestep_attack.imagenet_folder import (
    NUM_CLASSES,
    READ,
    Photograph,
    load_image,
    read_folder,
    read_names,
)
from pitprop.cases.timestep_attack.settings import PAPER, AttackResult, Settings
from pitprop.cases.timestep_attack.stable_diffusion import RESOLUTION, StableDiffusion, frozen, load_part
from pitprop.cases.timestep_attack.weights import Stream, TimestepWeights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, for classifiers whose folder names none."""


class Surrogate:
    """An ImageNet classifier from a local folder of transformers; fulfils `backbone.Classifier`.

    Args:
        folder: As `save_pretrained` writes it, weights in safetensors; mean, standard deviation and size are read from
            its `preprocessor_config.json` where there is one.
        device: Where it computes.

    Raises:
        PitpropError: The folder can't be loaded, or the classifier hasn't 1000 labels.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        self.model = frozen(load_part(AutoModelForImageClassification, Path(folder), ""), device)
        if self.model.config.num_labels != NUM_CLASSES:
            raise PitpropError(
                f"The classifier in {folder} has {self.model.config.num_labels} labels",
                means=f"the images' labels are ImageNet's {NUM_CLASSES}.",
                do="give a classifier of ImageNet.",
                read=READ,
            )
        facts = _preprocessing(Path(folder))
        self.mean, self.std = (
            torch.tensor(facts.get(name, default), device=device)[:, None, None]
            for name, default in (("image_mean", MEAN), ("image_std", STD))
        )
        size = getattr(self.model.config, "image_size", None)
        self.size = size if isinstance(size, int) else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels; the first of several synonyms."""
        return tuple(self.model.config.id2label[label].split(",")[0] for label in range(NUM_CLASSES))

    def __call__(self, images: Float[Tensor, "stream channel height width"]) -> Float[Tensor, "stream label"]:
        """Images in [-1, 1], normalised here; resized where the model takes one size only."""
        pixels = (images + 1) / 2
        if self.size not in (None, pixels.shape[-1]):
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        return self.model((pixels - self.mean) / self.std).logits


class Paper(NamedTuple):
    """All that the full size needs."""

    backbone: StableDiffusion
    surrogate: Surrogate
    photographs: list[Photograph]
    resolution: int


class Attacked(NamedTuple):
    """One image under all streams of weights."""

    photograph: Photograph
    original: Float[Tensor, "channel height width"]
    """In [-1, 1], as it was resized."""
    clean: bool
    """Whether the surrogate is right about the original; the others don't count for success."""
    fooled: list[bool]
    """Whether the surrogate is wrong about the adversarial image, by stream."""
    result: AttackResult


def load(
    stable_diffusion: Path,
    surrogate: Path,
    images: Path,
    *,
    class_names: Path | None = None,
    resolution: int = RESOLUTION,
    device: torch.device | str | None = None,
) -> Paper:
    """Loads everything from local folders.

    Args:
        stable_diffusion: Folder of the pipeline; see `stable_diffusion.py`.
        surrogate: Folder of the classifier.
        images: Folder with `images/` and `labels.txt`; see `imagenet_folder.py`.
        class_names: Text file with 1000 prompts; by default the surrogate's own names of its labels.
        resolution: Side of the images in pixels.
        device: By default the GPU where there is one.

    Raises:
        PitpropError: Something is missing, damaged, or only there in a format that can run code.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    photographs = read_folder(images)  # first, as it costs nothing
    classifier = Surrogate(surrogate, device)
    names = classifier.class_names if class_names is None else read_names(class_names)
    backbone = StableDiffusion(stable_diffusion, names, resolution=resolution, device=device)
    return Paper(backbone, classifier, photographs, resolution)


def attack_images(
    paper: Paper, streams: Sequence[Stream], *, num_images: int | None = None, settings: Settings = PAPER
) -> Iterator[Attacked]:
    """Attacks one image after the other; the weights go on from image to image, as in the original.

    Args:
        paper: What `load` returned.
        streams: Each image is attacked once per stream.
        num_images: The first so many; by default all.
        settings: Numbers of the attack.
    """
    backbone = paper.backbone
    active = backbone.timesteps(settings.num_steps)[settings.start_step :].to(backbone.device)
    alphas = backbone.alphas_cumprod[active]
    weights = TimestepWeights(streams, alphas_cumprod=alphas, device=backbone.device)
    for photograph in paper.photographs[:num_images]:
        original = load_image(photograph.path, paper.resolution)
        images = original.to(backbone.device).expand(len(streams), -1, -1, -1)
        labels = torch.full((len(streams),), photograph.label, device=backbone.device)
        result = attack(backbone, paper.surrogate, images, labels, weights, settings)
        with torch.no_grad():
            clean = bool(paper.surrogate(images[:1]).argmax(-1) == photograph.label)
            fooled = (paper.surrogate(result.images).argmax(-1) != labels).tolist()
        yield Attacked(photograph, original, clean, fooled, result)


def _preprocessing(folder: Path) -> dict:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: [float(x) for x in found[name]] for name in ("image_mean", "image_std") if found.get(name)}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PitpropError(f"{path} can't be read: {error}", do="save the image processor anew.", read=READ) from error
