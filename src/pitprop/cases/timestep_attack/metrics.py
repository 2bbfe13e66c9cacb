"""What an attack achieved and at what cost, image by image, and the Fréchet distance of whole sets."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pitprop.cases._frechet import frechet_distance
from pitprop.cases.timestep_attack.classifiers import Classifiers

PER_IMAGE = ("success", "transfer", "l1", "l2", "linf")


def per_image(
    classifiers: Classifiers,
    adversarial: Float[Tensor, "image channel 8 8"],
    images: Float[Tensor, "image channel 8 8"],
    labels: Int[Tensor, " image"],
) -> dict[str, Float[Tensor, " image"]]:
    """One number per image.

    Returns:
        `success` (1 where the surrogate no longer gives the label), `transfer` (share of the transfer classifiers that
        don't, between 0 and 1, of those that were right about the clean image; NaN where none was), and norms of the
        change with pixels in [0, 1]: `l1`, `l2`, `linf`.
    """
    with torch.no_grad():
        success = (classifiers.surrogate(adversarial).argmax(-1) != labels).float()
    knew = torch.stack([label(images) == labels for label in classifiers.transfer.values()])
    fooled = torch.stack([label(adversarial) != labels for label in classifiers.transfer.values()])
    change = (adversarial - images).flatten(1) / 2
    return {
        "success": success,
        "transfer": (knew & fooled).sum(0) / knew.sum(0),
        "l1": change.norm(1, dim=1),
        "l2": change.norm(dim=1),
        "linf": change.abs().amax(1),
    }


@torch.no_grad()
def frechet(
    classifiers: Classifiers, images: Float[Tensor, "n channel 8 8"], reference: Float[Tensor, "m channel 8 8"]
) -> float:
    """Distance to `reference` in features of the small CNN, which the attack never sees; see `cases/_frechet.py`."""
    return frechet_distance(classifiers.features(images).numpy(), classifiers.features(reference).numpy())
