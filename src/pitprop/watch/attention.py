"""Attention as it passes the dispatcher: which calls are attention, and what is measured of each.

Three rules find it, whatever Python wrote it: (A) a fused kernel is called and has q and k as arguments; (B) a softmax
runs over scores, which descend from a batched product of two tensors that are not parameters; (C) the fast path of
`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` is called, and q and k are recomputed from its packed weights.
Attention written as exp and sum, or by a kernel that is not torch's own, is not seen: `Watch.tap_attention` is for it.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pitprop.indicators import attention_entropy, attention_logit_peak, attention_sink, head_redundancy
from pitprop.indicators._logits import has_order, logit_blocks

aten = torch.ops.aten
FUSED = frozenset(
    {
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_fused_attention_overrideable.default,
    }
)
PACKED = frozenset({aten._native_multi_head_attention.default, aten._transformer_encoder_layer_fwd.default})

ROWS, BATCH = 32, 4
"""Query rows and batch elements that are measured, evenly spaced and the first ones; all of them where fewer."""
MAP_HEADS, MAP_SIDE = 8, 128
"""Heads, and query rows and keys, that are kept of an attention map."""
HIDDEN = -1e4
"""A logit at or under this is masked: additive masks of -inf, of the type's minimum, of -1e4 or -1e9 are in use."""


class Measured(NamedTuple):
    """One attention call."""

    numbers: dict[str, Float[Tensor, ""]]
    """Indicator -> value: the entropy is a mean over heads and batch, those of single heads are of the largest head."""
    map: Float[Tensor, "head query key"] | None
    """Weights of the first batch element, thinned out, where a map was asked for."""


def from_qk(
    q: Float[Tensor, "*batch head query width"],
    k: Float[Tensor, "*batch kv_head key width"],
    *,
    scale: float | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    with_map: bool = False,
) -> Measured:
    """Measure one attention call by its queries and keys.

    Args:
        q, k: As they enter the dot product.
        scale: Factor of the dot product; 1/sqrt(width) where absent.
        mask: Boolean (True = attend) or additive, broadcast to `*batch head query key`.
        is_causal: Query i sees keys 0 to i.
        with_map: Compute the (thinned out) attention map as well.
    """
    q, k = (_four_axes(t)[:BATCH] for t in (q, k))
    if mask is not None and mask.dim() > 3:
        mask = mask.reshape(-1, *mask.shape[-3:])[:BATCH]
    call = {"scale": scale, "mask": mask, "is_causal": is_causal}
    blocks = list(logit_blocks("attention", q, k, rows=ROWS, **call))
    if not blocks:  # no queries or no keys
        return Measured({}, None)
    logits, visible = (torch.cat([block[part] for block in blocks], dim=-2) for part in (0, 1))
    hidden = ~visible
    # A row that sees nothing has no weights: zeros, not the NaN that a softmax of -inf gives.
    shown = logits.masked_fill(hidden, -math.inf).softmax(-1).masked_fill(hidden, 0.0)
    return Measured(_numbers(logits, shown, visible), _map_from_qk(q, k, **call) if with_map else None)


def from_scores(
    scores: Float[Tensor, "*batch query key"],
    weights: Float[Tensor, "*batch query key"],
    *,
    heads: int | None = None,
    with_map: bool = False,
) -> Measured:
    """Measure one attention call by what went into the softmax, and what came out.

    Args:
        scores: Before the softmax, scaled and masked.
        weights: After it.
        heads: Heads that are folded into the first of three axes, where they are (`nn.MultiheadAttention` does so).
        with_map: Keep the (thinned out) weights as well.
    """
    if scores.dim() == 3:
        fold = (-1, heads if isinstance(heads, int) and scores.shape[0] % heads == 0 else 1)
        scores, weights = scores.unflatten(0, fold), weights.unflatten(0, fold)
    rows = _every(scores.shape[-2], ROWS, scores.device)
    s, p = (_four_axes(t)[:BATCH].index_select(-2, rows).float() for t in (scores, weights))
    kept = _thin(_four_axes(weights)[0]) if with_map else None
    return Measured(_numbers(s, p, s > HIDDEN), kept)


def _numbers(
    logits: Float[Tensor, "batch head query key"],
    weights: Float[Tensor, "batch head query key"],
    visible: Bool[Tensor, "batch head query key"],
) -> dict[str, Float[Tensor, ""]]:
    """Everything that is measured of query rows; rows with one visible key are left out, NaN where none is left."""
    count = visible.sum(-1)
    several = count > 1
    s = logits.masked_fill(~visible, 0.0)
    centred = (s - (s.sum(-1) / count.clamp(min=1))[..., None]).masked_fill(~visible, 0.0)
    spread = (centred.square().sum(-1) / count.clamp(min=1)).sqrt() / (2 * count.clamp(min=2).log()).sqrt()
    return {
        "attention_entropy": _defined_mean(attention_entropy(weights, visible=visible)),
        "attention_logit_scale": _largest_head((spread * several).sum(-1) / several.sum(-1)),
        "attention_logit_peak": _largest_head(attention_logit_peak(s, visible=visible)),
        "attention_sink": _largest_head(attention_sink(weights, visible=visible).where(has_order(visible), math.nan)),
        "head_redundancy": _defined_mean(head_redundancy(weights, visible=visible)),
    }


def packed_qk(call: dict) -> dict:
    """q, k and mask of a fast-path call, for `from_qk`, from its arguments by name."""
    heads = call["num_head"] if "num_head" in call else call["num_heads"]
    query = call["query"] if "query" in call else call["src"]
    key = call.get("key", query)
    if call.get("norm_first"):
        weight, bias, eps = call["norm_weight_1"], call["norm_bias_1"], call["eps"]
        query = key = torch.nn.functional.layer_norm(query, query.shape[-1:], weight, bias, eps)
    w_q, w_k, _ = call["qkv_weight"].chunk(3)
    b_q, b_k, _ = call["qkv_bias"].chunk(3)
    q = torch.nn.functional.linear(query, w_q, b_q).unflatten(-1, (heads, -1)).transpose(1, 2)
    k = torch.nn.functional.linear(key, w_k, b_k).unflatten(-1, (heads, -1)).transpose(1, 2)
    mask = call.get("mask")
    if mask is not None:
        # Types of the fast path: 0 is [query, key], 1 is [batch, key]; True hides.
        hidden = mask[:, None, None, :] if call.get("mask_type") == 1 else mask
        mask = ~hidden if hidden.dtype == torch.bool else hidden
    return {"q": q, "k": k, "mask": mask}


def _map_from_qk(q, k, *, scale, mask, is_causal) -> Float[Tensor, "head query key"]:
    q, k = q[0].float(), k[0].float()
    k = k.repeat_interleave(q.shape[0] // k.shape[0], dim=0)
    heads, rows = _every(q.shape[0], MAP_HEADS, q.device), _every(q.shape[1], MAP_SIDE, q.device)
    logits = q[heads][:, rows] @ k[heads].mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        part = mask[0] if mask.dim() > 3 else mask
        part = part.expand(q.shape[0], q.shape[1], k.shape[1])[heads][:, rows]
        logits = logits.masked_fill(~part, -math.inf) if part.dtype == torch.bool else logits + part
    if is_causal:
        later = torch.arange(k.shape[1], device=q.device) > rows[:, None]
        logits = logits.masked_fill(later, -math.inf)
    return logits.softmax(-1)[..., _every(k.shape[1], MAP_SIDE, q.device)]


def _thin(weights: Float[Tensor, "head query key"]) -> Float[Tensor, "head query key"]:
    for axis, most in enumerate((MAP_HEADS, MAP_SIDE, MAP_SIDE)):
        weights = weights.index_select(axis, _every(weights.shape[axis], most, weights.device))
    return weights.clone()


def _every(total: int, most: int, device) -> Tensor:
    return torch.arange(0, total, max(1, math.ceil(total / most)), device=device)


def _four_axes(t: Tensor) -> Float[Tensor, "batch head token width"]:
    """`[batch, head, token, width]`; a missing batch or head axis has length 1, further batch axes are folded."""
    if t.dim() > 4:
        return t.reshape(-1, *t.shape[-3:])
    return t[(None,) * (4 - t.dim())]


def _defined_mean(values: Tensor) -> Tensor:
    return values.float().nanmean()


def _largest_head(values: Float[Tensor, "batch head"]) -> Float[Tensor, ""]:
    per_head = values.float().nanmean(dim=0)
    return torch.where(per_head.isnan(), -math.inf, per_head).max().nan_to_num(neginf=math.nan)
