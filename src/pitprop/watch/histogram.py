"""Histograms of magnitudes in buckets that never change, so that they have one shape and add up.

A histogram is of log10 |x|, half a power of ten to a bucket. What is smaller than the first edge, zeros too, is in the
first bucket, what is larger than the last one in the last.
"""

import numpy as np
from jaxtyping import Float, Int

from pitprop._array import Array, accumulate, like, namespace

NAME = "gradient_histogram"
"""Name of the arrays in a trace."""
EDGES = np.linspace(-10.5, 2.5, 27)
"""Of the buckets, in log10."""
NUM_BUCKETS = len(EDGES) - 1


def magnitudes(x: Float[Array, "..."]) -> Int[Array, " bucket"]:
    """How many entries of `x` have a magnitude in each bucket; those that are not finite are in none.

    Args:
        x: numpy, torch or jax array.

    Returns:
        26 counts, those of the buckets between `EDGES`.
    """
    xp = namespace(x)
    flat = xp.reshape(xp.abs(accumulate(x)), (-1,))
    lowest, highest = 10 ** EDGES[0], 10 ** EDGES[-1]
    kept = xp.where(xp.isfinite(flat), xp.clip(flat, lowest, highest), xp.nan)
    bucket = xp.clip(xp.floor(2 * (xp.log10(kept) - EDGES[0])), 0, NUM_BUCKETS - 1)
    each = like(np.arange(NUM_BUCKETS, dtype=np.float32), flat)
    return xp.sum(xp.astype(bucket[None, :] == each[:, None], xp.int32), axis=1)
