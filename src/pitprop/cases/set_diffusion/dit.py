"""DiT: predicts the noise from the noised image, the time and the context, which acts through adaptive LayerNorm.

Names as in the original (`model/set_diffusion/dit_jax.py`), after Peebles and Xie 2022 (arXiv 2212.09748). The three
initialisations that the seed calls critical are one knob, `adaln`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from numpy import ndarray

from pitprop.cases.set_diffusion.encoder import patchify, stack, through
from pitprop.cases.set_diffusion.knobs import Initialisation, Knobs

FREQUENCIES = 128
INITIALISERS = {
    "zero": nnx.initializers.zeros,
    "normal": nnx.initializers.normal(0.02),
    "scaled": nnx.initializers.variance_scaling(0.02, "fan_in", "truncated_normal"),
}


def initialiser(name: Initialisation) -> nnx.Initializer:
    """Of the modulation kernels and the output kernel."""
    return INITIALISERS[name]


def modulate(x: Array, shift: Float[Array, "image hidden"], scale: Float[Array, "image hidden"]) -> Array:
    """`x (1 + scale) + shift`, the same for all tokens of an image."""
    return x * (1 + scale[:, None]) + shift[:, None]


def positions(tokens: int, width: int) -> Float[ndarray, "token width"]:
    """Fixed sines and cosines of the token's row and column, a quarter of the width each."""
    side = int(tokens**0.5)
    rates = 1 / 10000 ** (np.arange(width // 4) / (width // 4))
    angles = np.arange(side)[:, None] * rates
    line = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    return np.concatenate([np.repeat(line, side, 0), np.tile(line, (side, 1))], 1).astype(np.float32)


class Attention(nnx.Module):
    """Multi-head attention of `x` to `y`."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        self.heads = knobs.heads
        xavier = nnx.initializers.xavier_uniform()
        self.query = nnx.Linear(knobs.hidden, knobs.hidden, kernel_init=xavier, rngs=rngs)
        self.key_value = nnx.Linear(knobs.hidden, 2 * knobs.hidden, kernel_init=xavier, rngs=rngs)
        self.out = nnx.Linear(knobs.hidden, knobs.hidden, kernel_init=xavier, rngs=rngs)

    def __call__(self, x: Float[Array, "image token hidden"], y: Float[Array, "image source hidden"]) -> Array:
        b, n, hidden = x.shape
        k, v = (part.reshape(b, y.shape[1], self.heads, -1) for part in jnp.split(self.key_value(y), 2, -1))
        q = self.query(x).reshape(b, n, self.heads, -1)
        return self.out(jax.nn.dot_product_attention(q, k, v).reshape(b, n, hidden))


class DiTBlock(nnx.Module):
    """Attention and feed-forward layer, each modulated before and gated after; in lag mode cross-attention between."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(
                knobs.hidden, use_bias=knobs.layer_norm_scale, use_scale=knobs.layer_norm_scale, rngs=rngs
            )

        self.norm1, self.norm2 = norm(), norm()
        self.attention = Attention(knobs, rngs)
        self.cross_norm = norm() if knobs.conditioning == "lag" else None
        self.cross = Attention(knobs, rngs) if knobs.conditioning == "lag" else None
        inner = knobs.mlp_ratio * knobs.hidden
        self.mlp1 = nnx.Linear(knobs.hidden, inner, kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs)
        self.mlp2 = nnx.Linear(inner, knobs.hidden, kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs)
        self.adaln = nnx.Linear(knobs.hidden, 6 * knobs.hidden, kernel_init=initialiser(knobs.adaln), rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "image token hidden"],
        conditioning: Float[Array, "image hidden"],
        source: Float[Array, "image source hidden"] | None,
    ) -> Float[Array, "image token hidden"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(self.adaln(nnx.silu(conditioning)), 6, -1)
        y = modulate(self.norm1(x), shift1, scale1)
        x = x + gate1[:, None] * self.attention(y, y)
        if self.cross is not None and self.cross_norm is not None and source is not None:
            x = x + self.cross(self.cross_norm(x), source)
        y = modulate(self.norm2(x), shift2, scale2)
        return x + gate2[:, None] * self.mlp2(nnx.gelu(self.mlp1(y)))


class FinalLayer(nnx.Module):
    """Tokens to patches of predicted noise."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        scale = knobs.layer_norm_scale
        self.norm = nnx.LayerNorm(knobs.hidden, use_bias=scale, use_scale=scale, rngs=rngs)
        initialise = initialiser(knobs.adaln)
        self.adaln = nnx.Linear(knobs.hidden, 2 * knobs.hidden, kernel_init=initialise, rngs=rngs)
        self.out = nnx.Linear(knobs.hidden, knobs.patch_size**2 * knobs.channels, kernel_init=initialise, rngs=rngs)

    def __call__(self, x: Float[Array, "image token hidden"], conditioning: Float[Array, "image hidden"]) -> Array:
        shift, scale = jnp.split(self.adaln(nnx.silu(conditioning)), 2, -1)
        return self.out(modulate(self.norm(x), shift, scale))


class DiT(nnx.Module):
    """The noise in an image."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        small = nnx.initializers.normal(0.02)
        self.patch_size, self.channels, self.film = knobs.patch_size, knobs.channels, knobs.conditioning == "film"
        side = knobs.image_size // knobs.patch_size
        self.side, self.hidden = side, knobs.hidden
        xavier = nnx.initializers.xavier_uniform()
        self.patches = nnx.Linear(knobs.patch_size**2 * knobs.channels, knobs.hidden, kernel_init=xavier, rngs=rngs)
        self.time1 = nnx.Linear(FREQUENCIES, knobs.hidden, kernel_init=small, rngs=rngs)
        self.time2 = nnx.Linear(knobs.hidden, knobs.hidden, kernel_init=small, rngs=rngs)
        self.context = nnx.Linear(knobs.hidden, knobs.hidden, kernel_init=xavier, rngs=rngs)
        self.null = nnx.Param(small(rngs.params(), (knobs.hidden,))) if knobs.null_context == "learnable" else None
        self.blocks = stack(DiTBlock, knobs, knobs.depth, rngs)
        self.final = FinalLayer(knobs, rngs)

    def null_context(self) -> Float[Array, " hidden"]:
        """What stands for "no context": zeros, or a learned vector."""
        return jnp.zeros(self.hidden) if self.null is None else self.null[...]

    def __call__(
        self,
        x: Float[Array, "image channel height width"],
        t: Int[Array, " image"],
        c: Float[Array, "image *token hidden"],
    ) -> Float[Array, "image channel height width"]:
        tokens = self.patches(patchify(x, self.patch_size))
        tokens = tokens + positions(tokens.shape[1], self.hidden)
        conditioning = self.time2(nnx.silu(self.time1(_waves(t))))
        source = None
        if self.film:
            conditioning = conditioning + self.context(c)
        else:
            source = self.context(c)
        out = self.final(through(self.blocks, tokens, conditioning, source), conditioning)
        out = out.reshape(-1, self.side, self.side, self.patch_size, self.patch_size, self.channels)
        return out.transpose(0, 5, 1, 3, 2, 4).reshape(x.shape)


def _waves(t: Int[Array, " image"]) -> Float[Array, "image frequency"]:
    half = FREQUENCIES // 2
    angles = t[:, None] * jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / half)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)
