"""How far a weight that began at zero has come, beside a random walk of the same steps."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, norm, size
from pitprop.indicators._facts import Indicator


def displacement_ratio(weight: Float[Array, "*parameter"], *, lr: float, steps: int) -> Float[Array, ""]:
    """RMS of a zero-initialised weight over lr sqrt(steps).

    Adam moves every coordinate by about lr per step. Where gradients have no direction at all, that is a random walk
    of lr sqrt(steps), the least that a weight with gradient can do; with one direction it is lr steps.

    Args:
        weight: The weight now; it was zero before the first step.
        lr: Learning rate.
        steps: Steps taken.

    Returns:
        Pure number from 0 up; NaN before the first step, without a learning rate and without entries.

    Cost: one pass over the weight. Source: the catalogue's bound; Adam's step size is arXiv 1412.6980, section 2.1.
    """
    moved = accumulate(weight)
    num = size(moved)
    return norm(moved) / (lr * (steps * num) ** 0.5 if num and steps > 0 and lr > 0 else NAN)


INDICATOR = Indicator(
    function=displacement_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("permute-entries", "permute-samples", "rotate-width", "flip-sign"),
    at_initialisation="1 after Adam's first step; between 0.2 and sqrt(steps) later",
)
