"""Attention logits in blocks of query rows: masks, causal order and grouped heads, in memory linear in the keys."""

from collections.abc import Iterator
from typing import NamedTuple

from pitprop._array import NAN, Array, accumulate, every, like, matmul, namespace
from pitprop._errors import PitpropError
from pitprop.indicators._expect import expect_axes

HIDDEN = -1e4
"""An additive mask hides a key at or below this: exp of it is exactly 0 beside any visible key of ordinary logits."""

BLOCK = 128
"""Query rows held at a time; the block's logits take `heads * BLOCK * keys * 4` bytes per sample."""


class Block(NamedTuple):
    """Some query rows against all keys."""

    logits: Array
    """"*batch head rows key", scaled, with the finite part of an additive mask; 0 where hidden."""
    visible: Array
    """"*batch head rows key", True where the query may attend to the key."""
    count: Array
    """"*batch head rows", visible keys, as a float."""


def logit_blocks(
    indicator: str, q, k, *, scale: float | None, mask, is_causal: bool, rows: int | None
) -> Iterator[Block]:
    """Walk over the (sampled) query rows of "*batch head query width" against "*batch kv_head key width".

    Causal order is aligned top left, as in torch's `scaled_dot_product_attention`: query i sees keys 0 to i.

    Raises:
        PitpropError: Shapes that do not fit together.
    """
    q, k = check_heads(indicator, q, k)
    xp = namespace(q, k)
    *batch, heads, queries, width = q.shape
    kv_heads, keys = k.shape[-3], k.shape[-2]
    if mask is not None:
        check_mask(indicator, mask, queries, keys)
    scale = width**-0.5 if scale is None else scale
    positions = every(queries if rows is None else rows, queries) if keys else []
    k_transposed = xp.matrix_transpose(k)
    for start in range(0, len(positions), BLOCK):
        at = positions[start : start + BLOCK]
        # The query heads of one key head lie one after the other, so that no key is copied.
        grouped = xp.reshape(q[..., at, :], (*batch, kv_heads, heads // kv_heads * len(at), width))
        logits = xp.reshape(matmul(grouped, k_transposed) * scale, (*batch, heads, len(at), keys))
        visible = xp.ones_like(logits, dtype=xp.bool)
        if is_causal:
            visible = visible & (like(range(keys), q) <= like(at, q)[:, None])
        if mask is not None:
            part = mask if len(mask.shape) < 2 or mask.shape[-2] == 1 else mask[..., at, :]
            if part.dtype == xp.bool:
                visible = visible & part
            else:
                part = accumulate(part)
                shown = ~(part <= HIDDEN)  # a NaN in the mask is not a hidden key
                visible = visible & shown
                logits = logits + xp.where(shown, part, 0.0)
        yield Block(xp.where(visible, logits, 0.0), visible, xp.sum(xp.astype(visible, logits.dtype), axis=-1))


def check_heads(indicator: str, q, k):
    """`q` and `k` ready to multiply, in one type that is safe to sum in."""
    expect_axes(indicator, "head query width", q=q)
    expect_axes(indicator, "head key width", k=k)
    if q.shape[:-3] != k.shape[:-3] or q.shape[-1] != k.shape[-1] or q.shape[-3] % max(k.shape[-3], 1):
        raise PitpropError(
            f"`{indicator}` got q of shape {tuple(q.shape)} and k of shape {tuple(k.shape)}",
            means="The batch axes and the width must agree, and the query heads must be a multiple of the key heads.",
            do="Pass q as `*batch head query width` and k as `*batch kv_head key width`, after rotary embedding.",
        )
    q, k = accumulate(q), accumulate(k)
    xp = namespace(q, k)
    common = xp.result_type(q.dtype, k.dtype)
    return xp.astype(q, common), xp.astype(k, common)


def check_mask(indicator: str, mask, queries: int, keys: int) -> None:
    """Refuse a mask that would be read wrongly without an error: integers, or rows that belong to other queries."""
    fits = all(n in (1, full) for n, full in zip(mask.shape[::-1], (keys, queries), strict=False))
    if not fits or not namespace(mask).isdtype(mask.dtype, ("bool", "real floating")):
        raise PitpropError(
            f"`{indicator}` got a mask of shape {tuple(mask.shape)} and type {mask.dtype}"
            f" for {queries} queries and {keys} keys",
            means="Whether 1 shows a key or is added to its logit is not said by an integer." if fits else "",
            do="Pass a mask that broadcasts to `*batch head query key`, boolean (True = attend) or additive floats.",
        )


def has_order(visible):
    """Of "*batch query key": whether queries that see the first key differ in how many they see, as in causal order.

    Elsewhere the keys are a set (patches, places, DETR's queries), and which of them is the first means nothing.
    """
    xp = namespace(visible)
    count = xp.sum(xp.astype(visible, xp.float32), axis=-1)
    most, least = xp.where(visible[..., 0], count, 0.0), xp.where(visible[..., 0], count, float("inf"))
    return xp.max(most, axis=-1) > xp.min(least, axis=-1)


def softmax_entropy(block: Block):
    """Entropy in nats of each row's softmax; NaN where no key is visible."""
    xp = namespace(block.logits)
    peak = xp.max(xp.where(block.visible, block.logits, -float("inf")), axis=-1, keepdims=True)
    below = xp.where(block.visible, block.logits - peak, 0.0)
    unnormalised = xp.where(block.visible, xp.exp(below), 0.0)
    total = xp.sum(unnormalised, axis=-1)
    seen = block.count > 0
    total = xp.where(seen, total, 1.0)
    # H = lse - E_p[logit]; with the peak taken out of both, near one-hot rows lose no digits to cancellation.
    return xp.where(seen, xp.log(total) - xp.sum(unnormalised * below, axis=-1) / total, NAN)
