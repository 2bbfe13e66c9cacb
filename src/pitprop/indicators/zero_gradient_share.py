"""How much of a module has a gradient of exactly nothing."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, namespace
from pitprop.indicators._expect import expect_same_shape
from pitprop.indicators._facts import Indicator


def zero_gradient_share(
    norms: Float[Array, "*batch tensor"], sizes: Float[Array, "*batch tensor"]
) -> Float[Array, "*batch"]:
    """Share of a module's entries that lie in tensors whose whole gradient is exactly zero.

    Args:
        norms: Gradient norm of each of its tensors.
        sizes: Number of entries of each.

    Returns:
        Pure number in [0, 1]; NaN without tensors, and where one of the norms is NaN.

    Raises:
        PitpropError: The shapes differ.

    Cost: a handful of scalars. Source: own; exact zero is structural, any other threshold has the loss's unit.
    """
    expect_same_shape("zero_gradient_share", norms=norms, sizes=sizes)
    g, n = accumulate(norms), accumulate(sizes)
    xp = namespace(g, n)
    part = xp.where(xp.isnan(g), NAN, xp.abs(n))
    return divide(xp.sum(xp.where(g == 0, part, 0.0), axis=-1), xp.sum(part, axis=-1))


INDICATOR = Indicator(
    function=zero_gradient_share,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C0",
    invariances=("permute-entries", "flip-sign"),
    at_initialisation="0; behind a zero-initialised factor 1 for the first step or two, and 1 for good in a dead chain",
)
