"""Null-text optimisation: an unconditional embedding per step with which guided steps retrace the inversion.

Mokady et al. 2022, arXiv 2211.09794, as the original uses it: the embedding of one step is where the next one starts.
Also as in the original, the first active step starts from the latent of the step before it (251 for 201, of 20 steps)
and should end at its own: the embeddings make up for that, too.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pitprop.cases.timestep_attack.backbone import Backbone
from pitprop.cases.timestep_attack.diffusion import Context, Latents, ddim_step, guided_noise
from pitprop.cases.timestep_attack.settings import Settings


def optimise(
    backbone: Backbone, inversion: list[Latents], context: Context, settings: Settings
) -> list[Float[Tensor, "stream token width"]]:
    """Embeddings of the active steps, one per step; rows don't mix.

    Args:
        backbone: Frozen.
        inversion: What `invert` returns.
        context: The condition.
        settings: `null_lr`, `null_iterations`, `null_growth` and `guidance` are read.
    """
    first = settings.start_step
    timesteps = backbone.timesteps(settings.num_steps).tolist()[first:]
    latents = inversion[first - 1]
    null = backbone.null_context(len(latents)).clone().requires_grad_()
    optimizer = torch.optim.AdamW([null], lr=settings.null_lr)
    found = []

    def step(timestep: int) -> Latents:
        noise = guided_noise(backbone, latents, timestep, null, context, settings.guidance)
        return ddim_step(backbone, latents, noise, timestep, settings.num_steps)

    for index, timestep in enumerate(timesteps):
        for _ in range(settings.null_iterations + settings.null_growth * index):
            # AdamW is elementwise and a row's loss reads that row alone, so a sum trains every row by itself.
            loss = (step(timestep) - inversion[first + index]).square().mean((1, 2, 3)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            latents = step(timestep)
        found.append(null.detach().clone())
    return found
