"""Make long series and large maps small enough to be sent with a page, without hiding what matters."""

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from pitprop._errors import PitpropError


def keep(values: Float32[np.ndarray, " points"], limit: int) -> Int64[np.ndarray, " kept"]:
    """Indices of at most `limit` points that show the same curve.

    The points are cut into buckets of equal length; of each, the lowest, the highest and the first undefined one stay,
    so that no extreme and no stretch of NaN disappears. The first and the last point always stay.

    Raises:
        ValueError: `limit` is under 5, too small for the two ends and one bucket.
    """
    if limit < 5:
        raise ValueError(f"limit is {limit}, at least 5 are needed")
    if len(values) <= limit:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for bucket in np.array_split(np.arange(len(values)), (limit - 2) // 3):
        undefined: Bool[np.ndarray, " points"] = np.isnan(values[bucket])
        if undefined.any():
            kept.add(int(bucket[undefined.argmax()]))
        if not undefined.all():
            kept.update((int(bucket[np.nanargmin(values[bucket])]), int(bucket[np.nanargmax(values[bucket])])))
    return np.array(sorted(kept), dtype=np.int64)


def spread(items: list, limit: int) -> list:
    """At most `limit` of `items`, evenly spread, first and last among them."""
    if len(items) <= limit:
        return items
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, max(limit, 1)).round().astype(int))]


def heads(weights: Shaped[np.ndarray, "*head query key"]) -> Float32[np.ndarray, "head query key"]:
    """Attention weights as one stack of heads; of a batch `[batch, head, query, key]` the first item.

    Raises:
        PitpropError: The array has fewer than two or more than four axes, or no entry.
    """
    if not 2 <= weights.ndim <= 4 or not weights.size:
        raise PitpropError(
            f"an array called `attention` has the shape {weights.shape}",
            means="It cannot be shown as attention maps: they have the axes [[batch] head] query key.",
            do="record it under another name",
        )
    weights = weights[0] if weights.ndim == 4 else weights
    return np.atleast_3d(weights[None] if weights.ndim == 2 else weights).astype(np.float32)


def pool(weights: Float32[np.ndarray, "head query key"], side: int) -> tuple[Float32[np.ndarray, "head q k"], int]:
    """Mean over squares of original entries so that no map is wider than `side`; also returns the squares' side."""
    factor = -(-max(weights.shape[1:]) // side)
    if factor <= 1:
        return weights, 1
    query, key = (np.arange(0, n, factor) for n in weights.shape[1:])
    total = np.add.reduceat(np.add.reduceat(weights, query, axis=1), key, axis=2)
    count = np.add.reduceat(np.add.reduceat(np.ones_like(weights[:1]), query, axis=1), key, axis=2)
    return total / count, factor
