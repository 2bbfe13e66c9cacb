"""Whether the gradient has outgrown what Adam remembers of it."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, mean_where, namespace
from pitprop.indicators._expect import expect_same_shape
from pitprop.indicators._facts import Indicator


def second_moment_ratio(
    gradient: Float[Array, "*parameter"], second_moment: Float[Array, "*parameter"]
) -> Float[Array, ""]:
    """RMS_t = sqrt(mean of g^2 / v): 1 where the second moment describes the gradient.

    Args:
        gradient: As the optimizer gets it.
        second_moment: v of the same step, with its bias corrected.

    Returns:
        Pure number from 0 up; entries that never had a gradient (v = 0) are left out, NaN where none is left.

    Raises:
        PitpropError: The shapes differ.

    Cost: one pass over both. Source: Wortsman et al. 2023, arXiv 2304.13013 (StableAdamW divides the step by it where
    it is over 1; spikes follow it where it is over 2.3).
    """
    expect_same_shape("second_moment_ratio", gradient=gradient, second_moment=second_moment)
    g, v = accumulate(gradient), accumulate(second_moment)
    xp = namespace(g, v)
    root = xp.sqrt(xp.where(v == 0, 1.0, xp.where(v > 0, v, NAN)))
    return xp.sqrt(mean_where((g / root) ** 2, v != 0))


INDICATOR = Indicator(
    function=second_moment_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("permute-entries", "permute-samples"),
    at_initialisation="exactly 1 in Adam's first step; about 1 on average for gradients of a steady size",
)
