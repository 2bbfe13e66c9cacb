"""sViT: the context of a set, by a vision transformer over patches of all its images at once.

Names as in the original (`model/vit_set_jax.py`). SPT stacks the set along the channels and, despite the name shifted
patch tokenisation (Lee et al. 2021, arXiv 2112.13492), shifts nothing there; `shifts` adds what it is named after.
LSA is locality self-attention of the same paper: learned temperature, diagonal masked.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pitprop.cases.set_diffusion.knobs import Knobs

SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Rows and columns by which the four copies move, as in `lucidrains/vit-pytorch`."""


def patchify(x: Float[Array, "image channel height width"], size: int) -> Float[Array, "image patch value"]:
    """Square patches, row by row, each as one vector."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // size, size, w // size, size).transpose(0, 2, 4, 3, 5, 1)
    return x.reshape(b, (h // size) * (w // size), size * size * c)


def shifted(x: Float[Array, "image channel height width"]) -> Float[Array, "image channels height width"]:
    """`x` with its four copies moved by one pixel, the rim filled with zeros, along the channels."""
    h, w = x.shape[-2:]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    copies = [padded[:, :, 1 - row : 1 - row + h, 1 - column : 1 - column + w] for row, column in SHIFTS]
    return jnp.concatenate([x, *copies], 1)


class SPT(nnx.Module):
    """Patches of the stacked set to tokens: LayerNorm, Dense."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        self.patch_size, self.shifts = knobs.patch_size, knobs.shifts
        width = knobs.patch_size**2 * knobs.sample_size * knobs.channels * (1 + len(SHIFTS) * knobs.shifts)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        initialise = nnx.initializers.variance_scaling(knobs.spt_scale, "fan_in", "truncated_normal")
        self.proj = nnx.Linear(width, knobs.hidden, kernel_init=initialise, rngs=rngs)

    def __call__(
        self, sets: Float[Array, "context other channel height width"]
    ) -> Float[Array, "context patch hidden"]:
        stacked = sets.reshape(sets.shape[0], -1, *sets.shape[-2:])
        return self.proj(self.norm(patchify(shifted(stacked) if self.shifts else stacked, self.patch_size)))


class LSA(nnx.Module):
    """Attention with a learned scale, exp(temperature), and without a token's attention to itself."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        self.heads, self.learned = knobs.heads, knobs.temperature_learned
        inner = knobs.heads * knobs.dim_head
        self.temperature = nnx.Param(jnp.log(jnp.asarray(knobs.dim_head**-0.5 * knobs.temperature)))
        self.to_qkv = nnx.Linear(knobs.hidden, 3 * inner, use_bias=False, rngs=rngs)
        self.to_out = nnx.Linear(inner, knobs.hidden, rngs=rngs)

    def __call__(self, x: Float[Array, "context token hidden"]) -> Float[Array, "context token hidden"]:
        b, n, _ = x.shape
        q, k, v = (part.reshape(b, n, self.heads, -1) for part in jnp.split(self.to_qkv(x), 3, -1))
        temperature = self.temperature[...]
        scale = jnp.exp(temperature if self.learned else jax.lax.stop_gradient(temperature))
        others = ~jnp.eye(n, dtype=bool)[None, None]
        return self.to_out(jax.nn.dot_product_attention(q * scale, k, v, mask=others, scale=1.0).reshape(b, n, -1))


class EncoderBlock(nnx.Module):
    """Pre-norm: attention, then a feed-forward layer as wide as the tokens."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(knobs.hidden, rngs=rngs), nnx.LayerNorm(knobs.hidden, rngs=rngs)
        self.attention = LSA(knobs, rngs)
        self.mlp1 = nnx.Linear(knobs.hidden, knobs.hidden, rngs=rngs)
        self.mlp2 = nnx.Linear(knobs.hidden, knobs.hidden, rngs=rngs)

    def __call__(self, x: Float[Array, "context token hidden"]) -> Float[Array, "context token hidden"]:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp2(nnx.gelu(self.mlp1(self.norm2(x))))


def stack(block: Callable[[Knobs, nnx.Rngs], nnx.Module], knobs: Knobs, depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` blocks as one, their parameters along a leading axis: compiled once, however deep."""

    @nnx.split_rngs(splits=depth)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs: nnx.Rngs) -> nnx.Module:
        return block(knobs, rngs)

    return make(rngs)


def through(blocks: Any, x: Array, *arguments: Array | None) -> Array:
    """`x` through one block after the other; each is also given the arguments."""
    graph, params = nnx.split(blocks)

    def one(x: Array, own: Any) -> tuple[Array, None]:
        return nnx.merge(graph, own)(x, *arguments), None

    return jax.lax.scan(one, x, params)[0]


class sViT(nnx.Module):
    """Images of one class to their context."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        self.tokens_out = knobs.conditioning == "lag"
        tokens = 2 + (knobs.image_size // knobs.patch_size) ** 2
        self.to_patch_embedding = SPT(knobs, rngs)
        self.cls_token = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (1, 1, knobs.hidden)))
        self.pos_embedding = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (1, tokens, knobs.hidden)))
        self.blocks = stack(EncoderBlock, knobs, knobs.encoder_depth, rngs)
        self.norm = nnx.LayerNorm(knobs.hidden, rngs=rngs)
        self.head = nnx.Linear(knobs.hidden, knobs.hidden, rngs=rngs)

    def __call__(
        self, sets: Float[Array, "context other channel height width"]
    ) -> Float[Array, "context *token hidden"]:
        """The context: of the class token, or, for cross-attention, of every token."""
        x = self.to_patch_embedding(sets)
        cls = jnp.broadcast_to(self.cls_token[...], (x.shape[0], 1, x.shape[-1]))
        # The time token is zero in the original: the encoder isn't told the noise level.
        x = jnp.concatenate([cls, jnp.zeros_like(cls), x], 1) + self.pos_embedding[...]
        x = through(self.blocks, x)
        return self.head(self.norm(x if self.tokens_out else x[:, 0]))
