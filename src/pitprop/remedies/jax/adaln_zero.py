"""adaLN-Zero: a block that is modulated by a condition and starts as the identity; and two other ways to start.

Paper: Peebles and Xie, Scalable Diffusion Models with Transformers (DiT), arXiv 2212.09748 (2023).
Source: written from the formula `x + g * F(LN(x) * (1 + s) + b)` with `(b, s, g) = silu(c) W`; no code copied.
Differences: one branch with its own three-part projection; DiT joins those of attention and MLP into one of six parts.
`init="normal"` (standard deviation .02) and `"scaled"` (variance scaling .02 over the fan-in, truncated) are seed 3's
alternatives.
Cost: 3 * width * condition_width parameters and a LayerNorm without parameters per branch.
Facts: with zeros the projection wakes at step 1 and the condition's encoder at step 2 (behind a zero final layer), 0
and 1 otherwise; after that it learns like any other.
Insertion: keeps the stream exactly with `init="zero"`; changes it otherwise.
Does not help: a condition that is ignored because the loss hardly depends on it; and together with another zero factor
inside of the branch (a zero output projection, a ReZero) nothing in it ever moves.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx


class AdaLNZero(nnx.Module):
    """Adds a modulated, gated branch to a stream.

    Args:
        width: Channels of the stream.
        condition_width: Channels of the condition.
        init: How the projection of the condition starts; its bias is zero.

    Shapes: `x` is `[batch, token, width]`, `condition` `[batch, condition_width]`; `branch` keeps the shape of `x`.
    """

    def __init__(
        self,
        width: int,
        condition_width: int,
        *,
        init: Literal["zero", "normal", "scaled"] = "zero",
        eps: float = 1e-6,
        rngs: nnx.Rngs,
    ):
        kernel_init = {
            "zero": nnx.initializers.zeros,
            "normal": nnx.initializers.normal(0.02),
            "scaled": nnx.initializers.variance_scaling(0.02, "fan_in", "truncated_normal"),
        }[init]
        self.eps = eps
        self.projection = nnx.Linear(condition_width, 3 * width, kernel_init=kernel_init, rngs=rngs)

    def __call__(self, x: jax.Array, condition: jax.Array, branch: Callable[[jax.Array], jax.Array]) -> jax.Array:
        modulation = self.projection(jax.nn.silu(condition))[:, None]
        shift, scale, gate = jnp.split(modulation, 3, axis=-1)
        centred = x - x.mean(-1, keepdims=True)
        normalised = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + self.eps)
        return x + gate * branch(normalised * (1 + scale) + shift)
