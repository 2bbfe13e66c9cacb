"""How far one optimizer step moves a weight, in units of the weight."""

from jaxtyping import Float

from pitprop._array import Array, accumulate, divide, namespace, norm
from pitprop.indicators._expect import expect_same_shape
from pitprop.indicators._facts import Indicator


def update_ratio(update: Float[Array, "*parameter"], weight: Float[Array, "*parameter"]) -> Float[Array, ""]:
    """|update| / |weight|, the relative change of a parameter in one step.

    Args:
        update: Weight after the step minus weight before it.
        weight: Weight before the step.

    Returns:
        Pure number from 0 up; NaN for a weight of zeros (a zero-initialised layer at its first step).

    Raises:
        PitpropError: The shapes differ.

    Cost: two passes over the parameter. Source: textbook; Adam's first step moves every entry by the learning rate.
    """
    expect_same_shape("update_ratio", update=update, weight=weight)
    change, before = norm(accumulate(update)), norm(accumulate(weight))
    xp = namespace(change, before)
    return divide(xp.asarray(change), xp.asarray(before))


INDICATOR = Indicator(
    function=update_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("scale", "permute-entries", "permute-samples", "rotate-width", "flip-sign"),
    at_initialisation="learning rate / RMS(weight) in Adam's first step; 0.028 for a torch Linear of width 256 at 1e-3",
)
