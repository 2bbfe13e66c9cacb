"""Do two losses pull the weights the same way?"""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, namespace, norm, size
from pitprop.indicators._expect import expect_axes, expect_same_shape
from pitprop.indicators._facts import Indicator


def gradient_cosine(
    first: Float[Array, "*batch weight"], second: Float[Array, "*batch weight"]
) -> Float[Array, "*batch"]:
    """Cosine of two gradients of the same weights: 1 is agreement, 0 independence, -1 conflict.

    Args:
        first: Gradient of one loss, all weights in one row.
        second: Gradient of the other, on the same batch.

    Returns:
        Pure number in [-1, 1]; NaN where one of them is zero.

    Raises:
        PitpropError: Scalars, or shapes that differ.

    Cost: one backward pass per loss, and one pass over the weights. Source: Yu et al., "PCGrad", arXiv 2001.06782.
    """
    expect_axes("gradient_cosine", "weight", first=first, second=second)
    expect_same_shape("gradient_cosine", first=first, second=second)
    a, b = accumulate(first), accumulate(second)
    xp = namespace(a, b)
    if size(a) == 0:
        return xp.sum(a, axis=-1) + NAN
    a, b = (divide(x, norm(x, axis=-1)[..., None]) for x in (a, b))
    return xp.clip(xp.sum(a * b, axis=-1), -1.0, 1.0)


INDICATOR = Indicator(
    function=gradient_cosine,
    unit="1",
    low=-1.0,
    high=1.0,
    cost="C2",
    invariances=("scale", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="about 0 with a spread of 1/sqrt(weights) for unrelated losses; positive for related ones",
)
