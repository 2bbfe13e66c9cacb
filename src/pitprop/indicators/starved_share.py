"""Where Adam's epsilon, not its second moment, sets the size of the step."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, mean_where, namespace
from pitprop.indicators._facts import Indicator


def starved_share(second_moment: Float[Array, "*parameter"], *, eps: float) -> Float[Array, ""]:
    """Share of coordinates with sqrt(v) < 10 eps, of those that ever had a gradient.

    There the step m / (sqrt(v) + eps) is cut by a tenth or more, and Adam stops being free of the gradient's scale.

    Args:
        second_moment: v, with its bias corrected.
        eps: The optimizer's epsilon.

    Returns:
        Pure number in [0, 1]; NaN where no entry ever had a gradient, and for entries under 0.

    Cost: one pass over v. Source: Wortsman et al. 2023, arXiv 2309.14322; the 10 is a convention.
    """
    v = accumulate(second_moment)
    xp = namespace(v)
    possible = xp.where(v >= 0, v, NAN)
    starved = xp.where(xp.isnan(possible), NAN, xp.astype(xp.sqrt(possible) < 10 * eps, v.dtype))
    return mean_where(starved, v != 0)


INDICATOR = Indicator(
    function=starved_share,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("permute-entries", "permute-samples"),
    at_initialisation="near 0 at eps = 1e-8 and a loss of the order of 1; 1 where the loss was scaled by 1e-8",
)
