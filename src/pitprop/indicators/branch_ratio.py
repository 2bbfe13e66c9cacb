"""How loud a residual branch is beside the stream that it is added to."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, mean_where, namespace, norm, size
from pitprop.indicators._expect import expect_axes, expect_same_shape
from pitprop.indicators._facts import Indicator


def branch_ratio(branch: Float[Array, "sample ..."], stream: Float[Array, "sample ..."]) -> Float[Array, ""]:
    """Mean over samples of |branch| / |stream|, each norm over all tokens and channels of the sample.

    With a normalising head the stream's gradient shrinks by |x| / |x + a c|: a ratio far above 1 drowns the stream.

    Args:
        branch: What is added.
        stream: What it is added to, before the addition.

    Returns:
        Pure number from 0 up; samples with a stream of zeros are left out, NaN where none is left.

    Raises:
        PitpropError: Scalars, or shapes that differ.

    Cost: one pass over both. Source: the gradient of a scale-invariant head, g/|y| projected off y, at y = x + a c.
    """
    expect_axes("branch_ratio", "sample", branch=branch, stream=stream)
    expect_same_shape("branch_ratio", branch=branch, stream=stream)
    added, kept = accumulate(branch), accumulate(stream)
    xp = namespace(added, kept)
    if size(added) == 0:
        return xp.sum(added) + NAN
    features = (added.shape[0], size(added) // added.shape[0])
    before = norm(xp.reshape(kept, features), axis=-1)
    ratios = divide(norm(xp.reshape(added, features), axis=-1), before)
    return mean_where(ratios, before != 0)


INDICATOR = Indicator(
    function=branch_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="exactly 0 for a zero-initialised output projection; about 1/sqrt(l) at the l-th branch when all "
    "branches add the same variance",
)
