"""The diffusion: linear betas, noising, the epsilon loss's pieces, and sampling by the posterior's mean.

Source: Ho et al. 2020 (arXiv 2006.11239); betas scaled by 1000 / T as in `openai/guided-diffusion`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from numpy import ndarray

from pitprop._errors import PitpropError


def betas(steps: int) -> Float[ndarray, " step"]:
    """Linear from 1e-4 to 0.02 at 1000 steps, and 1000 / `steps` times as much at fewer.

    Raises:
        PitpropError: 20 steps or fewer, where the last beta would be 1 or more.
    """
    if steps <= 20:
        raise PitpropError(
            f"{steps} diffusion steps are too few for linear betas: the last would be {20 / steps:g}.",
            do="choose `diffusion_steps` over 20; the original has 250.",
        )
    scale = 1000 / steps
    return np.linspace(scale * 1e-4, scale * 0.02, steps)


def alphas_bar(steps: int) -> Float[ndarray, " step"]:
    """Share of the image's variance that is left after each step."""
    return np.cumprod(1 - betas(steps))


def q_sample(
    x: Float[Array, "image ..."], t: Int[Array, " image"], noise: Float[Array, "image ..."], steps: int
) -> Float[Array, "image ..."]:
    """`x` at noise level `t`, which is 0 to `steps` - 1."""
    kept = jnp.asarray(alphas_bar(steps), x.dtype)[t].reshape(-1, *[1] * (x.ndim - 1))
    return jnp.sqrt(kept) * x + jnp.sqrt(1 - kept) * noise


def sample(
    predict: Callable[[Float[Array, "image ..."], Int[Array, " image"]], Float[Array, "image ..."]],
    key: Key[Array, ""],
    shape: tuple[int, ...],
    steps: int,
) -> Float[Array, "image ..."]:
    """Images by ancestral sampling over all `steps`, with the fixed small variance; the image estimate kept in [-1, 1].

    Args:
        predict: `predict(x, t)` gives the noise in `x`.
        key: Of all random numbers.
        shape: Of the images.
        steps: Of the diffusion.
    """
    beta, kept = betas(steps), alphas_bar(steps)
    before = np.append(1.0, kept[:-1])
    table = jnp.asarray(
        np.stack(
            [
                np.sqrt(1 / kept),
                np.sqrt(1 / kept - 1),
                beta * np.sqrt(before) / (1 - kept),
                (1 - before) * np.sqrt(1 - beta) / (1 - kept),
                np.sqrt(beta * (1 - before) / (1 - kept)),  # 0 at t = 0
            ]
        ),
        jnp.float32,
    )
    start, walk = jax.random.split(key)

    def step(x: Array, t: Array) -> tuple[Array, None]:
        to_image, to_noise, of_image, of_x, spread = table[:, t]
        image = jnp.clip(to_image * x - to_noise * predict(x, jnp.full(shape[:1], t)), -1, 1)
        noise = jax.random.normal(jax.random.fold_in(walk, t), shape)
        return of_image * image + of_x * x + spread * noise, None

    return jax.lax.scan(step, jax.random.normal(start, shape), jnp.arange(steps)[::-1])[0]
