"""Does the model still give different outputs for different inputs?"""

import numpy as np
from jaxtyping import Float

from pitprop._array import NAN, Array, like, namespace
from pitprop.indicators._facts import Indicator
from pitprop.indicators._pairwise import distances, sampled_rows


def output_uniqueness(
    outputs: Float[Array, "sample ..."], *, tolerance: float = 1e-2, rows: int = 256
) -> Float[Array, ""]:
    """Share of distinct rows: 1 when no output repeats an earlier one, 1/n when all are the same.

    A row repeats an earlier one when their distance is at most `tolerance` times the root-mean-square length of the
    rows. It looks across the batch; the distinct values within one output say nothing about collapse.

    Args:
        outputs: What the model gave for a batch of different inputs.
        tolerance: Relative distance under which two rows count as the same. float32 resolves about 1e-3 of
            the rows' spread.
        rows: Look at no more than this many rows, evenly spaced.

    Returns:
        Pure number in [1/n, 1]; NaN with fewer than two rows, or with a non-finite output.

    Raises:
        PitpropError: `outputs` is a scalar.

    Cost: one product of the sampled rows with themselves, at most 256 x 256 x feature.
    Source: the duplicate count of seed 4's author, with a tolerance that does not depend on the outputs' unit.
    """
    x = sampled_rows("output_uniqueness", outputs, rows)
    xp = namespace(x)
    n = x.shape[0]
    if n < 2 or x.shape[1] == 0:
        return xp.asarray(xp.sum(x) * NAN)
    peak = xp.max(xp.abs(x))
    usable = xp.isfinite(peak)
    x = xp.where(usable, x, 0.0) / xp.where(usable & (peak > 0), peak, 1.0)
    length = xp.sqrt(xp.sum(x * x) / n)
    earlier = like(np.tri(n, k=-1, dtype=bool), x)
    repeats = xp.any((distances(x) <= tolerance * length) & earlier, axis=1)
    return xp.where(usable, 1 - xp.mean(xp.astype(repeats, x.dtype)), NAN)


INDICATOR = Indicator(
    function=output_uniqueness,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="1 for distinct inputs; a saturated or constant model starts at 1/n",
)
