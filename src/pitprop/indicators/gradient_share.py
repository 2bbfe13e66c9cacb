"""Where in the model the gradient is."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def gradient_share(norms: Float[Array, "*batch site"]) -> Float[Array, "*batch site"]:
    """Share of the squared gradient norm per site, |g_b|^2 / sum |g|^2.

    The shares add up to 1 when the sites split the parameters between them. Multiplying the loss changes nothing.

    Args:
        norms: Gradient norm of each site.

    Returns:
        Pure numbers in [0, 1]; NaN where every norm is 0 or one of them is not finite.

    Raises:
        PitpropError: `norms` is a scalar.

    Cost: a handful of scalars. Source: own; squares, because squared norms add up over disjoint sites and norms do not.
    """
    expect_axes("gradient_share", "site", norms=norms)
    g = accumulate(norms)
    xp = namespace(g)
    if g.shape[-1] == 0:
        return g
    peak = xp.max(xp.abs(g), axis=-1, keepdims=True)
    relative = divide(xp.where(xp.isfinite(peak), g, NAN), peak)
    return relative * relative / xp.sum(relative * relative, axis=-1, keepdims=True)


INDICATOR = Indicator(
    function=gradient_share,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C0",
    invariances=("scale", "flip-sign"),
    at_initialisation="set by the architecture; exactly 0 behind a zero factor; the reference is its own start",
)
