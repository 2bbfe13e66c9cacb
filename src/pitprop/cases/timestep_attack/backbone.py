"""What the attack needs of a denoiser, of a classifier and of timestep weights: both presets fulfil these Protocols.

A *stream* is one row of the batch: one image under attack with timestep weights of its own. Rows never mix, so that
many images, modes and seeds are attacked at once.
"""

from typing import Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Control(Protocol):
    """Sees every attention map of a denoiser, and may change it."""

    def __call__(
        self, attention: Float[Tensor, "stream head query key"], is_cross: bool, place: str
    ) -> Float[Tensor, "stream head query key"]:
        """Called after the softmax, layer by layer in one fixed order.

        Args:
            attention: Rows sum to 1; differentiable.
            is_cross: Whether the keys are the context's tokens.
            place: `down`, `mid` or `up`.

        Returns:
            What the layer goes on with.
        """
        ...


class Backbone(Protocol):
    """A frozen latent denoiser with its encoder, decoder and schedule. Pixel-space denoisers encode by the identity."""

    @property
    def alphas_cumprod(self) -> Float[Tensor, " train_timestep"]:
        """Products of the signal shares of the training schedule, falling from nearly 1 to nearly 0."""
        ...

    @property
    def final_alpha_cumprod(self) -> float:
        """What stands for the step before timestep 0 (1, or the first of `alphas_cumprod` in Stable Diffusion)."""
        ...

    @property
    def cross_queries(self) -> int:
        """Number of queries of the cross-attention maps whose variance is part of the loss: (res / 32)² in the
        original.
        """
        ...

    def timesteps(self, num_steps: int) -> Int[Tensor, " step"]:
        """Training timesteps of a DDIM schedule with `num_steps` steps, falling."""
        ...

    def encode(self, images: Float[Tensor, "stream channel height width"]) -> Float[Tensor, "stream latent h w"]:
        """Images in [-1, 1] to scaled latents, always the same ones; no gradient."""
        ...

    def decode(self, latents: Float[Tensor, "stream latent h w"]) -> Float[Tensor, "stream channel height width"]:
        """Latents to images, about [-1, 1] and not clipped; differentiable."""
        ...

    def context(self, labels: Int[Tensor, " stream"]) -> Float[Tensor, "stream token width"]:
        """The condition: embedding of the class (of its name, in Stable Diffusion)."""
        ...

    def label_tokens(self, labels: Int[Tensor, " stream"]) -> Bool[Tensor, "stream token"]:
        """Which tokens of `context` are the class's own, at least one per row."""
        ...

    def null_context(self, num_streams: int) -> Float[Tensor, "stream token width"]:
        """The unconditional embedding, before null-text optimisation."""
        ...

    def predict_noise(
        self,
        latents: Float[Tensor, "stream latent h w"],
        timestep: int,
        context: Float[Tensor, "stream token width"],
        control: Control | None = None,
    ) -> Float[Tensor, "stream latent h w"]:
        """The noise in `latents`; differentiable in latents and context. `control` sees all attention of this call."""
        ...


class Classifier(Protocol):
    """The surrogate: images in [-1, 1], as `Backbone.decode` gives them, to logits; does its own normalisation."""

    def __call__(self, images: Float[Tensor, "stream channel height width"]) -> Float[Tensor, "stream label"]:
        """Logits; differentiable."""
        ...


class Weights(Protocol):
    """Timestep weights of many streams at once, with the rule that trains them.

    The attack calls, per image: `start_image()`; per iteration: forward, `weights(losses)` and `penalty(losses)` and
    `cross()`, `zero_grad()`, one backward of the whole loss, `step(losses)`.
    """

    @property
    def num_streams(self) -> int:
        """Rows; the attack refuses another number of images."""
        ...

    def start_image(self) -> None:
        """A new image begins: the original makes its Adam anew here and keeps the network."""
        ...

    def __call__(self, losses: Float[Tensor, "stream timestep"]) -> Float[Tensor, "stream timestep"]:
        """Factors of the self-attention losses of this iteration, the mean over timesteps being about 1/timesteps (the
        attack multiplies by the number of timesteps, as the original does).

        Args:
            losses: Sums over layers, with their graph; a mode that reads them detaches them.

        Returns:
            Carries gradient to the weights' own parameters only where the mode trains them through the attack's loss.
        """
        ...

    def penalty(self, losses: Float[Tensor, "stream timestep"]) -> Float[Tensor, " stream"]:
        """What is added to sum_t w_t L_t before `gamma` (KL, log-variance); zeros for most modes."""
        ...

    def cross(self) -> Float[Tensor, "stream timestep"]:
        """Weights of the cross-attention maps, summing to 1. The original computes and never reads them: the attack
        reads them only where `Settings.cross_weights` is `wired`.
        """
        ...

    def zero_grad(self) -> None:
        """Forgets the last iteration's gradients."""
        ...

    def step(self, losses: Float[Tensor, "stream timestep"]) -> None:
        """Own update, after the attack's backward; the gradients stay readable.

        Args:
            losses: As above, detached.
        """
        ...
