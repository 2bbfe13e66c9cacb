"""How fast weight decay and gradient turn a weight, beside the speed at which the two are in balance."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, namespace, norm
from pitprop.indicators._expect import expect_same_shape
from pitprop.indicators._facts import Indicator


def rotation_ratio(
    before: Float[Array, "*parameter"], after: Float[Array, "*parameter"], *, lr: float, weight_decay: float
) -> Float[Array, ""]:
    """Angle between a weight before and after one step, over sqrt(2 lr weight_decay).

    A weight whose length has no effect (a normalisation follows) keeps only its direction, and grows until decay
    balances the gradient's pushes; there it turns by sqrt(2 lr weight_decay) per step, whatever the gradient.

    Args:
        before: Weight before the step.
        after: Weight after it.
        lr: Learning rate of the step.
        weight_decay: Its weight decay.

    Returns:
        Pure number from 0 up; NaN for a weight of zeros, and without learning rate or decay.

    Raises:
        PitpropError: The shapes differ.

    Cost: one pass over both. Source: Kosson et al. 2024, arXiv 2305.17212.
    """
    expect_same_shape("rotation_ratio", before=before, after=after)
    old, new = accumulate(before), accumulate(after)
    xp = namespace(old, new)
    change, start, end = norm(new - old), norm(old), norm(new)
    # Chord of the unit vectors, from lengths: 1 - cosine would lose every angle under 3e-4 in float32.
    square = divide(change, start) * divide(change, end) - divide(end - start, start) * divide(end - start, end)
    angle = 2 * xp.asin(xp.clip(xp.sqrt(xp.clip(square, 0.0, None)) / 2, 0.0, 1.0)) + 0 * square
    balance = (2 * lr * weight_decay) ** 0.5 if lr > 0 and weight_decay > 0 else NAN
    return angle / balance


INDICATOR = Indicator(
    function=rotation_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("scale", "permute-entries", "permute-samples", "rotate-width", "flip-sign"),
    at_initialisation="over 1 for small weights, which grow until it is 1; 6 in the first step of a torch "
    "Linear of width 256 under AdamW's defaults",
)
