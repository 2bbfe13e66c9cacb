"""LayerScale: a learned gain per channel on a residual branch, small at the start.

Paper: Touvron et al., Going deeper with Image Transformers (CaiT), arXiv 2103.17239 (2021).
Source: written from the formula `x + g * F(x)`; no code copied. The twin of `remedies/torch/layer_scale.py`.
Differences: none.
Cost: width parameters and one multiplication per branch.
Insertion: keeps the function with `init=1`, exactly; with the paper's small gain the branch all but vanishes.
Does not help: behind a zero-initialised projection (with `init=0` on top of it the branch is dead for good), or against
a branch whose norm grows without bound, because the gain multiplies that norm instead of bounding it.
"""

import jax
import jax.numpy as jnp
from flax import nnx


class LayerScale(nnx.Module):
    """Multiplies the last axis by a learned gain.

    Args:
        width: Channels of the branch.
        init: Gain at the start; CaiT uses 0.1 for shallow, 1e-5 or 1e-6 for deep models.

    Shape: `[*batch, width]` in and out.
    """

    def __init__(self, width: int, *, init: float = 1e-5):
        self.gain = nnx.Param(jnp.full((width,), init))

    def __call__(self, branch: jax.Array) -> jax.Array:
        return branch * self.gain[...]
