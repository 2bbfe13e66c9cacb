"""Units of a ReLU that no sample wakes."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace, size
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def dead_share(activations: Float[Array, "sample unit"]) -> Float[Array, ""]:
    """Share of units that are exactly zero on every sample.

    By the rule of three, a unit that is silent on n samples is active on fewer than 3/n of them, at 95 % confidence.

    Args:
        activations: What the ReLU gave; tokens and positions are samples.

    Returns:
        Pure number in [0, 1]; NaN without entries or with a NaN among them.

    Raises:
        PitpropError: `activations` has fewer than two axes.

    Cost: one pass over the activations. Source: Sokar et al. 2023, arXiv 2302.12902 (dormant units, at threshold 0).
    """
    expect_axes("dead_share", "sample unit", activations=activations)
    x = accumulate(activations)
    xp = namespace(x)
    if size(x) == 0:
        return xp.sum(x) + NAN
    silent = xp.all(x == 0, axis=-2)
    return xp.where(xp.any(xp.isnan(x)), NAN, xp.mean(xp.astype(silent, x.dtype)))


INDICATOR = Indicator(
    function=dead_share,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries", "flip-sign"),
    at_initialisation="2^-n for n independent samples of a centred pre-activation: 0 from a dozen samples on",
)
