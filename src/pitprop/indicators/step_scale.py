"""How large a step is, beside the one that the learning rate stands for."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, norm, size
from pitprop.indicators._facts import Indicator


def step_scale(update: Float[Array, "*parameter"], *, lr: float) -> Float[Array, ""]:
    """RMS of the update over the learning rate.

    Adam's update is m / (sqrt(v) + eps) per unit of learning rate: 1 in the first step and where gradients agree, the
    less the noisier they are, and far less where eps is as large as the gradient.

    Args:
        update: Weight after the step minus weight before it, without decoupled weight decay.
        lr: Learning rate of the step.

    Returns:
        Pure number from 0 up; NaN without a learning rate or without entries.

    Cost: one pass over the update. Source: Kingma and Ba 2015, arXiv 1412.6980, section 2.1.
    """
    change = accumulate(update)
    num = size(change)
    return norm(change) / (num**0.5 * lr if num and lr > 0 else NAN)


INDICATOR = Indicator(
    function=step_scale,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("permute-entries", "permute-samples", "rotate-width", "flip-sign"),
    at_initialisation="1 in Adam's first step; then 0.2 to 1, sqrt((1 - beta1) / (1 + beta1)) = 0.23 for pure noise",
)
