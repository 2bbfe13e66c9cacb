"""Whether an update does anything but shrink its weight."""

from jaxtyping import Float

from pitprop._array import Array
from pitprop.indicators._cosine import cosine
from pitprop.indicators._facts import Indicator


def shrinkage(update: Float[Array, "*parameter"], weight: Float[Array, "*parameter"]) -> Float[Array, ""]:
    """Cosine of the update and the weight, with the sign turned: 1 where the weight only shrinks.

    Weight decay alone makes it 1, whatever the learning rate, the decay and (under SGD) the momentum are. In n
    dimensions two unrelated directions have a cosine of about 1/sqrt(n).

    Args:
        update: Weight after the step minus weight before it.
        weight: Weight before the step.

    Returns:
        Pure number in [-1, 1]; NaN where one of the two is zero.

    Raises:
        PitpropError: The shapes differ.

    Cost: one pass over both. Source: own; decoupled decay is Loshchilov and Hutter 2019, arXiv 1711.05101.
    """
    return -cosine("shrinkage", update=update, weight=weight)


INDICATOR = Indicator(
    function=shrinkage,
    unit="1",
    low=-1.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-entries", "permute-samples", "rotate-width", "flip-sign"),
    at_initialisation="near 0: a gradient has no reason to point at the weight it belongs to",
)
