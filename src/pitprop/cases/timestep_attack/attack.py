"""The attack on the latent of one image per stream."""

from jaxtyping import Float, Int
from torch import Tensor

from pitprop.cases.timestep_attack.backbone import Backbone, Classifier, Weights
from pitprop.cases.timestep_attack.settings import PAPER, AttackResult, Settings


def attack(
    backbone: Backbone,
    classifier: Classifier,
    images: Float[Tensor, "stream channel height width"],
    labels: Int[Tensor, " stream"],
    weights: Weights,
    settings: Settings = PAPER,
) -> AttackResult:
    """Follows in the next commit."""
    raise NotImplementedError
