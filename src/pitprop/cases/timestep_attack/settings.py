"""The numbers of the attack, of the original and of the small preset."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

CrossWeights = Literal["dead", "wired"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One attack. The defaults are the original's (`main.py`)."""

    num_steps: int = 20
    """Steps of the DDIM schedule."""
    start_step: int = 15
    """Steps that are left out; the last `num_steps - start_step` are active."""
    iterations: int = 30
    """Attack iterations per image."""
    guidance: float = 2.5
    latent_lr: float = 1e-2
    """Of AdamW on the adversarial latent."""
    null_lr: float = 1e-1
    """Of AdamW on the unconditional embedding."""
    null_iterations: int = 10
    """Null-text iterations at the first active step."""
    null_growth: int = 2
    """Further iterations with each active step."""
    alpha: float = 10.0
    """Factor of the attack loss."""
    beta: float = 10_000.0
    """Factor of the variance of cross-attention."""
    gamma: float = 100.0
    """Factor of the self-attention (structure) loss."""
    self_replace_steps: float = 1.0
    """Share of the active steps, from the first, whose self-attention is compared with the original's."""
    cross_weights: CrossWeights = "dead"
    """`dead`: computed and never read, as in the original; `wired`: weigh the cross-attention maps."""
    cross_gradient: bool = False
    """Whether the variance of cross-attention reaches the latent; not in the fork, whose aggregation is `no_grad`."""

    @property
    def num_active(self) -> int:
        """Timesteps that are weighted."""
        return self.num_steps - self.start_step


PAPER = Settings()
LAPTOP = Settings(latent_lr=5e-2, null_iterations=3, null_growth=0, beta=100.0)
"""For 8x8 pixels, where no attack succeeds at a latent_lr of 1e-2."""


class AttackResult(NamedTuple):
    """What `attack(backbone, classifier, images, labels, weights, settings)` returns."""

    images: Float[Tensor, "stream channel height width"]
    """Adversarial, clipped to [-1, 1]."""
    attack_loss: Float[Tensor, "iteration stream"]
    """-cross-entropy of the surrogate, without `alpha`."""
    cross_loss: Float[Tensor, "iteration stream"]
    """Variance of the averaged cross-attention map, without `beta`."""
    self_losses: Float[Tensor, "iteration stream timestep"]
    """Unweighted self-attention losses, summed over layers."""
    weights: Float[Tensor, "iteration stream timestep"]
    """What they were weighted with, before that iteration's update."""
    cross_weights: Float[Tensor, "iteration stream timestep"]
