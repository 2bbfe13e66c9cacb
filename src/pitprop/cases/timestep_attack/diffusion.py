"""DDIM steps, their inversion, and classifier-free guidance, for any backbone (Song et al. 2020, arXiv 2010.02502)."""

import torch
from jaxtyping import Float
from torch import Tensor

from pitprop.cases.timestep_attack.backbone import Backbone, Control

Latents = Float[Tensor, "stream latent h w"]
Context = Float[Tensor, "stream token width"]


def guided_noise(
    backbone: Backbone,
    latents: Latents,
    timestep: int,
    null: Context,
    context: Context,
    guidance: float,
    control: Control | None = None,
) -> Latents:
    """Unconditional noise plus `guidance` times the difference to the conditional one, in one pass of a double batch.

    `control` sees the conditional half only, as in the original.
    """

    both = backbone.predict_noise(
        torch.cat([latents, latents]),
        timestep,
        torch.cat([null, context]),
        None if control is None else _conditional_half(control),
    )
    unconditional, conditional = both.chunk(2)
    return unconditional + guidance * (conditional - unconditional)


def ddim_step(backbone: Backbone, latents: Latents, noise: Latents, timestep: int, num_steps: int) -> Latents:
    """One deterministic step from `timestep` towards the image."""
    before = timestep - len(backbone.alphas_cumprod) // num_steps
    target = backbone.alphas_cumprod[before] if before >= 0 else torch.tensor(backbone.final_alpha_cumprod)
    return _move(latents, noise, backbone.alphas_cumprod[timestep], target.to(latents))


@torch.no_grad()
def invert(backbone: Backbone, latents: Latents, num_steps: int) -> list[Latents]:
    """The latents that lead to `latents`, from the image up through all steps but the last.

    The original inverts with a guidance of 0, so that the condition has no say. Returns `num_steps` tensors, the most
    noisy one first and `latents` last.
    """
    found = [latents]
    null = backbone.null_context(len(latents))
    stride = len(backbone.alphas_cumprod) // num_steps
    for timestep in backbone.timesteps(num_steps).flip(0)[:-1].tolist():
        noise = backbone.predict_noise(found[-1], timestep, null)
        alphas = backbone.alphas_cumprod
        found.append(_move(found[-1], noise, alphas[timestep], alphas[timestep + stride]))
    return found[::-1]


def _conditional_half(control: Control) -> Control:
    def half(attention: Tensor, is_cross: bool, place: str) -> Tensor:
        first, second = attention.chunk(2)
        seen = control(second, is_cross, place)
        return attention if seen is second else torch.cat([first, seen])

    return half


def _move(latents: Latents, noise: Latents, alpha: Tensor, target: Tensor) -> Latents:
    image = (latents - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    return target.sqrt() * image + (1 - target).sqrt() * noise
