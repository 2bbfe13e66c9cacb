"""Units that no longer pass gradient because their squashing function is flat."""

from typing import Literal, get_args

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace, size
from pitprop._errors import PitpropError, nearest
from pitprop.indicators._facts import Indicator

Kind = Literal["tanh", "sigmoid"]


def saturated_share(y: Float[Array, "*unit"], kind: Kind) -> Float[Array, ""]:
    """Share of units whose derivative is under 1 % of its largest value.

    The derivative is a function of the output: 1 - y^2 for tanh (|y| > 0.995), y (1 - y) for the sigmoid (y outside
    0.0025 to 0.9975).

    Args:
        y: The activation's output, any shape.
        kind: Which function made it.

    Returns:
        Pure number in [0, 1]; NaN for an empty `y`, a NaN, or values that the function cannot give.

    Raises:
        PitpropError: Unknown `kind`.

    Cost: one pass over `y`. Source: the 1 % is a convention; the derivative is exact.
    """
    if kind not in get_args(Kind):
        raise PitpropError(
            f"`saturated_share` got kind {kind!r}",
            means="Which outputs are flat depends on the function that gave them.",
            do=f"Pass one of {', '.join(get_args(Kind))}; {nearest(str(kind), get_args(Kind))}",
        )
    y = accumulate(y)
    xp = namespace(y)
    if size(y) == 0:
        return xp.sum(y) + NAN
    low = -1 if kind == "tanh" else 0
    possible = xp.all((y >= low) & (y <= 1))  # False for a NaN
    slope = 1 - y * y if kind == "tanh" else 4 * y * (1 - y)
    return xp.where(possible, xp.mean(xp.astype(slope < 0.01, y.dtype)), NAN)


INDICATOR = Indicator(
    function=saturated_share,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("permute-entries", "permute-samples"),
    at_initialisation="0.0028 for tanh and under 1e-8 for the sigmoid when the input has unit variance",
)
