"""QK-norm: queries and keys at unit RMS per head, with learned gains, so that attention logits are bounded.

Paper: Henry et al., Query-Key Normalization for Transformers, arXiv 2010.04245 (2020); in the RMS form of ViT-22B,
arXiv 2302.05442, and of Qwen3. Source: written from the formula; no code copied. The twin of
`remedies/torch/qk_norm.py`.
Differences: the gain is shared by all heads, as in Qwen3; Flax's own `normalize_qk` is a LayerNorm.
Cost: 2 * head_width parameters per layer, one pass over q and k.
Facts: with gains of 1 and scale 1/sqrt(head_width) a logit is at most sqrt(head_width) in size (Cauchy-Schwarz).
Insertion: changes the function of a trained attention: the norms of its queries and keys are lost.
Does not help: against uniform attention (it bounds logits, it doesn't raise them), or where the tokens themselves are
alike.
"""

import jax
import jax.numpy as jnp
from flax import nnx


class QKNorm(nnx.Module):
    """Normalises queries and keys to unit RMS over the head's channels, then scales each channel.

    Args:
        head_width: Channels of one head.
        eps: Added to the mean square.

    Shapes: the last axis of `q` and `k` is `head_width`, others are free; the results have theirs.
    """

    def __init__(self, head_width: int, *, eps: float = 1e-6):
        self.eps = eps
        self.query_gain = nnx.Param(jnp.ones(head_width))
        self.key_gain = nnx.Param(jnp.ones(head_width))

    def __call__(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._unit(q) * self.query_gain[...], self._unit(k) * self.key_gain[...]

    def _unit(self, x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.eps)
