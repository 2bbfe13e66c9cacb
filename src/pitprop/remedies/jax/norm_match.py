"""Norm matching: a branch is given the norm of the stream that it is added to, whatever its own norm is.

Source: seed 1's own final fix (`wei-paul/AA-CLIP`, Apache-2.0), written anew from the formula `c * |x| / (|c| + eps)`;
no code copied. The twin of `remedies/torch/norm_match.py`.
Differences: `strength` scales the result. A branch of zeros has the gradient of `c * |x| / eps`, and no NaN.
Cost: two norms per token, no parameter.
Facts: with `c` orthogonal to `x`, the part of the gradient that reaches `x` through a normalising head is 1 / sqrt(1 +
a**2) for any norm of `c` (a=1: .707, .3: .958, .1: .995).
Insertion: changes the function, unless the branch has the stream's norm already.
Does not help: it hides that the raw branch grows (watch `branch_ratio` before it), and a constant gradient scale
doesn't matter to Adam anyway.
"""

import jax
import jax.numpy as jnp


def norm_match(branch: jax.Array, stream: jax.Array, *, strength: float = 1.0, eps: float = 1e-6) -> jax.Array:
    """`branch` with the norm of `stream` times `strength`, over the last axis.

    Args:
        branch: `[*batch, width]`, the values to be added.
        stream: `[*batch, width]`, the values they are added to.
        strength: Norm of the result relative to the stream's; 0 or more.
        eps: Keeps a zero branch zero.
    """
    return branch * (strength * _norm(stream) / (_norm(branch) + eps))


def _norm(x: jax.Array) -> jax.Array:
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    zero = squared == 0  # the root's own gradient is infinite there
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))
