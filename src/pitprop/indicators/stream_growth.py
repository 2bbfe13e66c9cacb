"""Whether a residual stream grows faster than independent branches can make it."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def stream_growth(norms: Float[Array, "*batch block"]) -> Float[Array, "*batch"]:
    """Norm after the last of n blocks over that after the first, over sqrt(n).

    Independent branches add variances: n equal ones give a stream of sqrt(n) times the first. The reference is the
    stream after the first block, not the embedding, which may be as small as its initialisation says.

    Args:
        norms: Length of the stream after each block, first block first.

    Returns:
        Pure number from 0 up: 1 is the law, g^(n - 1) / sqrt(n) a stack that multiplies by g. NaN without blocks or
        for a first stream of zeros.

    Raises:
        PitpropError: `norms` is a scalar.

    Cost: a handful of scalars. Source: the variance-addition law, De and Smith 2020, arXiv 2002.10444.
    """
    expect_axes("stream_growth", "block", norms=norms)
    x = accumulate(norms)
    xp = namespace(x)
    num = x.shape[-1]
    if num == 0:
        return xp.sum(x, axis=-1) + NAN
    growth = xp.abs(divide(x[..., -1], x[..., 0])) / num**0.5
    return xp.where(xp.any(xp.isnan(x), axis=-1), NAN, growth)


INDICATOR = Indicator(
    function=stream_growth,
    unit="1",
    low=0.0,
    cost="C0",
    invariances=("scale", "flip-sign"),
    at_initialisation="1 or less with residual connections and normalised branches; 1/sqrt(n) after post-normalisation",
)
