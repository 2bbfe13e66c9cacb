"""Distance between two distributions over the same parts."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._entropy import shares
from pitprop.indicators._expect import expect_axes, expect_same_shape
from pitprop.indicators._facts import Indicator


def total_variation(p: Float[Array, "*batch part"], q: Float[Array, "*batch part"]) -> Float[Array, "*batch"]:
    """Total variation 1/2 sum |p - q|: the share of the mass that moved, 0 for equal, 1 for disjoint.

    Args:
        p: Weights now; non-negative, normalised here.
        q: Weights to compare with, such as those at the start.

    Returns:
        Pure number in [0, 1]; NaN for no parts, a negative weight or a zero sum.

    Raises:
        PitpropError: Scalars, or shapes that differ.

    Cost: a handful of scalars. Source: textbook.
    """
    expect_axes("total_variation", "part", p=p, q=q)
    expect_same_shape("total_variation", p=p, q=q)
    p, q = accumulate(p), accumulate(q)
    xp = namespace(p, q)
    if p.shape[-1] == 0:
        return xp.sum(p, axis=-1) + NAN
    return xp.clip(xp.sum(xp.abs(shares(p) - shares(q)), axis=-1) / 2, 0.0, 1.0)


INDICATOR = Indicator(
    function=total_variation,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C0",
    invariances=("scale", "permute-entries"),
    at_initialisation="exactly 0 against its own start",
)
