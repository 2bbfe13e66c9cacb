"""How much of the targets' variety the outputs have."""

from jaxtyping import Float

from pitprop._array import NAN, Array, divide, namespace
from pitprop.indicators._expect import expect_same_shape
from pitprop.indicators._facts import Indicator
from pitprop.indicators._pairwise import distances, sampled_rows


def output_spread(
    outputs: Float[Array, "sample ..."], targets: Float[Array, "sample ..."], *, rows: int = 256
) -> Float[Array, ""]:
    """Mean pairwise distance of the outputs over that of their targets: 1 is as varied as the targets, 0 all the same.

    Args:
        outputs: What the model gave for a batch of different inputs.
        targets: What it should have given, in the same space (not class indices).
        rows: Look at no more than this many rows, evenly spaced.

    Returns:
        Pure number from 0 up; NaN where the targets do not vary or there are fewer than two rows.

    Raises:
        PitpropError: The shapes differ.

    Cost: two products of the sampled rows with themselves, at most 256 x 256 x feature each.
    Source: own; 0 for a model that ignores its input, whatever its loss.
    """
    expect_same_shape("output_spread", outputs=outputs, targets=targets)
    x = sampled_rows("output_spread", outputs, rows)
    y = sampled_rows("output_spread", targets, rows)
    xp = namespace(x, y)
    if x.shape[0] < 2 or x.shape[1] == 0:
        return xp.asarray(xp.sum(x) * NAN)
    common = xp.maximum(xp.max(xp.abs(x)), xp.max(xp.abs(y)))
    unit = xp.where(xp.isfinite(common) & (common > 0), common, 1.0)  # keeps the squares in range; it cancels
    return divide(xp.sum(distances(x / unit)), xp.sum(distances(y / unit)))


INDICATOR = Indicator(
    function=output_spread,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("scale", "shift", "permute-samples", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="depends on the output layer's scale; read it against its own start and against 0",
)
