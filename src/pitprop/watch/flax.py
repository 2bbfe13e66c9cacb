"""Attention in Flax: measured where it is called, or read from what linen and nnx modules have sown."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from pitprop import indicators as of
from pitprop._array import every
from pitprop.indicators._logits import HIDDEN, logit_blocks
from pitprop.watch._pytree import named_leaves
from pitprop.watch.sites import ROOT, is_below
from pitprop.watch.taps import Numbers, collecting, sow_lazily, tap

ROWS, BATCH = 32, 4
"""Query rows, and batch elements, of attention that are measured."""
OF_WEIGHTS = ("attention_entropy", "attention_sink", "head_redundancy")
OF_LOGITS = (*OF_WEIGHTS, "attention_logit_peak", "attention_logit_scale")
WEIGHTS, CALL = "attention_weights", "__call__"
"""Names by which Flax sows attention weights, and what modules return."""


def attention_fn(name: str, inner: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """For `attention_fn=` of Flax's attention modules: `inner`, measured by its queries and keys as site `name`.

    Args:
        name: Site to report it at.
        inner: `flax.nnx.dot_product_attention`, that of `flax.linen`, or one with their arguments
            `(query, key, value, bias=None, mask=None, ...)`, arrays as `[*batch, token, head, width]`.
    """

    @functools.wraps(inner)
    def measured(query: jax.Array, key: jax.Array, value: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        given = dict(zip(("bias", "mask"), args, strict=False)) | kwargs
        bias, mask = given.get("bias"), given.get("mask")
        if bias is not None:
            mask = bias if mask is None else jnp.where(mask, bias, HIDDEN)
        q, k = (jnp.swapaxes(x, -2, -3) for x in (query, key))
        tap_attention(name, q, k, mask=mask, is_causal=bool(given.get("is_causal", False)))
        return inner(query, key, value, *args, **kwargs)

    return measured


def tap_attention(
    name: str,
    q: Float[jax.Array, "*batch head query width"],
    k: Float[jax.Array, "*batch kv_head key width"],
    *,
    scale: float | None = None,
    mask: Float[jax.Array, "..."] | Bool[jax.Array, "..."] | None = None,
    is_causal: bool = False,
) -> None:
    """Measure one attention call by its queries and keys, as `Watch.tap_attention` does in torch.

    Args:
        name: Site to report it at.
        q: As it enters the dot product.
        k: As it enters the dot product; fewer heads than q means grouped queries.
        scale: Factor of the dot product; 1/sqrt(width) where absent.
        mask: Boolean (True = attend) or additive, broadcast to `*batch head query key`.
        is_causal: Query i sees keys 0 to i.
    """

    def compute() -> dict[str, jax.Array]:
        some_q, some_k = (_folded(x)[:BATCH] for x in (q, k))
        part = _folded(mask)[:BATCH] if mask is not None and mask.ndim > 3 else mask
        call = {"scale": scale, "mask": part, "is_causal": is_causal, "rows": ROWS}
        blocks = list(logit_blocks("attention", some_q, some_k, **call))
        logits, visible = (jnp.concatenate([block[i] for block in blocks], axis=-2) for i in (0, 1))
        weights = jax.nn.softmax(logits, axis=-1, where=visible)
        return _of_weights(weights, visible) | {
            "attention_logit_peak": _largest_head(of.attention_logit_peak(logits, visible=visible)),
            "attention_logit_scale": _largest_head(of.attention_logit_scale(some_q, some_k, **call)),
        }

    sow_lazily(name, OF_LOGITS, compute)


def from_intermediates(tree: Any) -> Numbers:
    """`{indicator: {site: value}}` of what Flax modules have sown; give it to a session as `taps`.

    Read are attention weights (`sow_weights=True`), and `[batch, token, width]` results of modules that hold others
    (linen's `capture_intermediates=True`). Whatever else was sown is left alone. A weight of exactly zero counts as a
    visible key, so under a mask the entropy is that of all keys: `attention_fn` knows better.

    Args:
        tree: The `intermediates` of linen's `apply(..., mutable=["intermediates"])`, or `nnx.pop(model,
            nnx.Intermediate)`; inside of the compiled step, or outside.
    """
    found: dict[str, list[tuple[str, jax.Array]]] = {}
    for path, leaf in named_leaves(tree):
        parts = path.split(".")
        parts = parts[1:] if parts[0] == "intermediates" else parts
        at = next((i for i, part in enumerate(parts) if part in (WEIGHTS, CALL)), None)
        if at is not None:
            found.setdefault(".".join(parts[:at]) or ROOT, []).append((parts[at], leaf))
    with collecting() as numbers:
        for site, leaves in found.items():
            weights = [leaf for kind, leaf in leaves if kind == WEIGHTS and leaf.ndim >= 3]
            for leaf in weights:
                part = _folded(leaf)[:BATCH, :, every(ROWS, leaf.shape[-2])]
                sow_lazily(site, OF_WEIGHTS, functools.partial(_of_weights, part))
            if not weights and any(is_below(other, site) for other in found):
                for _, leaf in leaves:
                    if leaf.ndim == 3:
                        tap(site, leaf)
    return numbers


def _of_weights(weights: jax.Array, visible: jax.Array | None = None) -> dict[str, jax.Array]:
    return {
        "attention_entropy": jnp.nanmean(of.attention_entropy(weights, visible=visible)),
        "attention_sink": _largest_head(of.attention_sink(weights, visible=visible)),
        "head_redundancy": jnp.nanmean(of.head_redundancy(weights, visible=visible)),
    }


def _folded(x: jax.Array) -> jax.Array:
    """`[batch, head, token, width]`; a missing batch or head axis has length 1, further batch axes are folded."""
    return x.reshape(-1, *x.shape[-3:]) if x.ndim > 4 else x[(None,) * (4 - x.ndim)]


def _largest_head(values: Float[jax.Array, "batch head"]) -> Float[jax.Array, ""]:
    return jnp.nanmax(jnp.nanmean(values, axis=0))
