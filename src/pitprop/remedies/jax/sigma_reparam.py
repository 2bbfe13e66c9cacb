"""sigmaReparam: a linear layer whose spectral norm is one learned number, `W' = gamma / sigma(W) * W`.

Paper: Zhai et al., Stabilizing Transformer Training by Preventing Attention Entropy Collapse, arXiv 2303.06296 (2023).
Source: written from the formula; apple/ml-sigma-reparam (only read) has it in torch and jax.
Differences: gamma starts at the spectral norm of the first W, as in the paper's torch code (its jax code has 1), so
that the layer starts as the plain one.
Cost: one power iteration (two matrix-vector products) per forward pass in training, one number and two vectors.
Facts: bounds the entropy of attention from below where it is in queries and keys, by their gammas.
Insertion: keeps the function up to the error of the first power iterations.
Does not help: against uniform attention, or a gamma that is itself driven up: it slows that down, no more.
"""

import jax
import jax.numpy as jnp
from flax import nnx


class PowerIteration(nnx.Variable):
    """Directions that the power iteration has reached; no gradient goes through them."""


class SigmaReparamLinear(nnx.Module):
    """A linear layer of a learned spectral norm.

    Args:
        num_in: Channels in.
        num_out: Channels out.
        num_first: Power iterations at the start.

    Shape: `[*batch, num_in]` to `[*batch, num_out]`. `update=False` leaves the directions alone (evaluation).
    """

    def __init__(self, num_in: int, num_out: int, *, num_first: int = 20, rngs: nnx.Rngs):
        kernel = nnx.initializers.truncated_normal(0.02)(rngs.params(), (num_in, num_out))
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros(num_out))
        u = jnp.ones(num_out) / num_out**0.5
        for _ in range(num_first):
            u, v = _iterate(kernel, u)
        self.u = PowerIteration(u)
        self.gamma = nnx.Param(v @ kernel @ u)

    def __call__(self, x: jax.Array, *, update: bool = True) -> jax.Array:
        kernel = self.kernel[...]
        fixed = jax.lax.stop_gradient(kernel)
        u, v = _iterate(fixed, self.u[...])
        if update:
            self.u[...] = u
        return x @ (kernel * (self.gamma[...] / (v @ kernel @ u))) + self.bias[...]


def _iterate(kernel: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    v = kernel @ u
    v = v / jnp.linalg.norm(v)
    u = v @ kernel
    return u / jnp.linalg.norm(u), v
