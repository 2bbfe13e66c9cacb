"""Do learned loss weights move towards the losses that are small anyway?"""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, namespace, norm
from pitprop.indicators._entropy import shares
from pitprop.indicators._expect import expect_axes, expect_same_shape
from pitprop.indicators._facts import Indicator


def loss_weight_alignment(
    before: Float[Array, "*batch part"], after: Float[Array, "*batch part"], losses: Float[Array, "*batch part"]
) -> Float[Array, "*batch"]:
    """Correlation of the change of the weights with minus the losses: 1 is straight to the smallest loss.

    Its sign is that of -sum_i dw_i L_i: positive where the change lowers the weighted loss by weighting, not by
    learning. Descent on sum_i w_i L_i over a softmax makes it positive at every step (derivation T1).

    Args:
        before: Weights of an earlier step; non-negative, normalised here.
        after: Weights now.
        losses: Unweighted losses that they weigh, in the same order.

    Returns:
        Pure number in [-1, 1]; NaN where nothing moved or all losses are equal.

    Raises:
        PitpropError: Scalars, or shapes that differ.

    Cost: a handful of scalars. Source: own; the flow on the simplex as in Mei et al. 2020, arXiv 2005.06392.
    """
    expect_axes("loss_weight_alignment", "part", before=before, after=after, losses=losses)
    expect_same_shape("loss_weight_alignment", before=before, after=after, losses=losses)
    w, v, values = accumulate(before), accumulate(after), accumulate(losses)
    xp = namespace(w, v, values)
    if w.shape[-1] < 2:
        return xp.sum(values, axis=-1) * 0 + NAN
    change = shares(v) - shares(w)
    above = values - xp.mean(values, axis=-1, keepdims=True)
    change, above = (divide(x, norm(x, axis=-1)[..., None]) for x in (change, above))
    return xp.clip(-xp.sum(change * above, axis=-1), -1.0, 1.0)


INDICATOR = Indicator(
    function=loss_weight_alignment,
    unit="1",
    low=-1.0,
    high=1.0,
    cost="C0",
    invariances=("permute-entries",),
    at_initialisation="undefined before the weights have moved",
)
