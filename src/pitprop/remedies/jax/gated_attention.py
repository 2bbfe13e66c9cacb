"""Gates on the output of attention: `attended * sigmoid(x W)`, before the output projection.

Paper: Qiu et al., Gated Attention for Large Language Models, arXiv 2505.06708 (2025); variants G1 elementwise and
headwise. Source: written from the formula; no code copied. The twin of `remedies/torch/gated_attention.py`.
Differences: the paper folds the gate's matrix into the query projection; here it is a matrix of its own, the same
function. `identity=True` is ours: zero matrix and `2 * sigmoid`.
Cost: elementwise width**2 parameters per layer, headwise width * num_heads; one matrix product per layer.
Insertion: keeps the function with `identity=True` (2 * sigmoid(0) is 1, exactly); without it the output is about
halved.
Does not help: no entropy enters a gate, so it doesn't steer attention towards or away from uniform; and a signal that
is cut off behind the attention stays cut off.
"""

import jax
import jax.numpy as jnp
from flax import nnx


class ElementwiseGate(nnx.Module):
    """A gate for every token and channel.

    Args:
        width: Channels of the token stream.
        num_heads: Not needed by this gate; taken so that all gates are made alike.
        identity: Start as the exact identity instead of near one half.

    Shapes: `attended` and `x` are `[*batch, token, width]`, heads already joined; `x` is what the queries were made
    from.
    """

    def __init__(self, width: int, num_heads: int, *, identity: bool = False, rngs: nnx.Rngs):
        self.scale = 2.0 if identity else 1.0
        self.projection = _projection(width, width, identity, rngs)

    def __call__(self, attended: jax.Array, x: jax.Array) -> jax.Array:
        return attended * (self.scale * jax.nn.sigmoid(self.projection(x)))


class HeadwiseGate(nnx.Module):
    """A gate for every token and head. Arguments and shapes as `ElementwiseGate`."""

    def __init__(self, width: int, num_heads: int, *, identity: bool = False, rngs: nnx.Rngs):
        self.scale = 2.0 if identity else 1.0
        self.projection = _projection(width, num_heads, identity, rngs)

    def __call__(self, attended: jax.Array, x: jax.Array) -> jax.Array:
        gate = self.scale * jax.nn.sigmoid(self.projection(x))
        return attended * jnp.repeat(gate, attended.shape[-1] // gate.shape[-1], axis=-1)


def _projection(width: int, num_out: int, zero: bool, rngs: nnx.Rngs) -> nnx.Linear:
    init = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    return nnx.Linear(width, num_out, use_bias=False, kernel_init=init, rngs=rngs)
