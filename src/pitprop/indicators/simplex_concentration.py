"""How far a set of weights has collapsed onto one of its members."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._entropy import entropy, over_maximum, shares
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def simplex_concentration(weights: Float[Array, "*batch part"]) -> Float[Array, "*batch"]:
    """1 - H/ln n of weights over n parts: 0 is uniform, 1 is one part with everything.

    Args:
        weights: Loss weights, expert loads, class marginals; non-negative, normalised here.

    Returns:
        Pure number in [0, 1]; NaN for one part, a negative weight or a zero sum.

    Raises:
        PitpropError: `weights` is a scalar.

    Cost: a handful of scalars. Source: minimising sum w L over a softmax goes to a vertex: Mei et al. 2020,
    arXiv 2005.06392.
    """
    expect_axes("simplex_concentration", "part", weights=weights)
    w = accumulate(weights)
    xp = namespace(w)
    n = w.shape[-1]
    if n < 2:
        return xp.sum(w, axis=-1) * 0 + NAN
    h = entropy(shares(w))
    return 1 - over_maximum(h, xp.ones_like(h) * n)


INDICATOR = Indicator(
    function=simplex_concentration,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C0",
    invariances=("scale", "permute-entries"),
    at_initialisation="exactly 0 for zero logits",
)
