"""Distance between two one-dimensional samples."""

import numpy as np
from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, like, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def wasserstein_distance(
    a: Float[Array, "*batch sample_a"], b: Float[Array, "*batch sample_b"]
) -> Float[Array, "*batch"]:
    """First Wasserstein distance between the samples along the last axes: the area between their quantile functions.

    For equal sizes it is the mean |a_(i) - b_(i)| of the sorted samples. It sees marginal values only: permuting the
    weights of a network leaves it at 0.

    Args:
        a: Samples of one distribution.
        b: Samples of the other; the number may differ.

    Returns:
        Number from 0 up, in the unit of the samples; NaN for an empty sample or one with a NaN.

    Raises:
        PitpropError: A scalar.

    Cost: two sorts. Source: equals `scipy.stats.wasserstein_distance`, on which it is tested.
    """
    expect_axes("wasserstein_distance", "sample", a=a, b=b)
    a, b = accumulate(a), accumulate(b)
    xp = namespace(a, b)
    n, m = a.shape[-1], b.shape[-1]
    if n == 0 or m == 0:
        return xp.sum(a, axis=-1) + xp.sum(b, axis=-1) + NAN
    # Both quantile functions are constant between these levels, counted in units of 1/(n m): sizes only, no values.
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    pieces = like((np.diff(levels) / (n * m)).astype(np.float32), a)
    at_a, at_b = levels[:-1] // m, levels[:-1] // n
    return xp.sum(pieces * xp.abs(xp.sort(a, axis=-1)[..., at_a] - xp.sort(b, axis=-1)[..., at_b]), axis=-1)


INDICATOR = Indicator(
    function=wasserstein_distance,
    unit="as the samples",
    low=0.0,
    cost="C2",
    invariances=("shift", "permute-entries", "flip-sign"),
    at_initialisation="about the sampling error, of the order of the spread over sqrt(n), for two draws of one "
    "distribution",
)
