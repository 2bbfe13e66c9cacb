"""Whether the gradient still points where the optimizer is going."""

from jaxtyping import Float

from pitprop._array import Array
from pitprop.indicators._cosine import cosine
from pitprop.indicators._facts import Indicator


def momentum_alignment(gradient: Float[Array, "*parameter"], momentum: Float[Array, "*parameter"]) -> Float[Array, ""]:
    """Cosine of a gradient and the momentum that the steps before it have left.

    On a quadratic of curvature h along the steps, a step of rate lr turns the gradient into (1 - lr h) of itself: it
    opposes the momentum once lr h > 1, and at the edge of stability (lr h = 2) it undoes the step before.

    Args:
        gradient: As the optimizer gets it.
        momentum: `exp_avg` or `momentum_buffer`, before this step.

    Returns:
        Pure number in [-1, 1]: under 0 the last steps went too far. NaN where one of the two is zero.

    Raises:
        PitpropError: The shapes differ.

    Cost: one pass over both. Source: the sign test of Pflug 1990 on successive gradients; the edge of stability is
    Cohen et al. 2021, arXiv 2103.00065.
    """
    return cosine("momentum_alignment", gradient=gradient, momentum=momentum)


INDICATOR = Indicator(
    function=momentum_alignment,
    unit="1",
    low=-1.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-entries", "permute-samples", "rotate-width", "flip-sign"),
    at_initialisation="over 0 while the loss falls steadily; near 0 where the batches' noise outweighs the gradient",
)
