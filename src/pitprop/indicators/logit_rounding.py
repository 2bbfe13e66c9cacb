"""What rounding does to probabilities when logits drift away from zero."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._classes import log_partition
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def logit_rounding(
    logits: Float[Array, "*batch sample class"], *, resolution: float = 2.0**-24
) -> Float[Array, "*batch"]:
    """Mean |log Z| times the type's relative rounding error: by how many nats a log-probability may be off.

    A softmax does not see a common offset of its logits, so nothing but rounding holds log Z back. At log Z = 128 a
    bfloat16 logit is off by up to half a nat.

    Args:
        logits: Before the softmax.
        resolution: Relative rounding error of the type that holds the logits: 2^-24 in float32, 2^-8 in bfloat16,
            2^-11 in float16.

    Returns:
        Nats, from 0 up; NaN without samples or classes, or with a NaN.

    Raises:
        PitpropError: `logits` has fewer than two axes.

    Cost: one pass over the logits. Source: the z-loss of Chowdhery et al., "PaLM", arXiv 2204.02311.
    """
    expect_axes("logit_rounding", "sample class", logits=logits)
    x = accumulate(logits)
    xp = namespace(x)
    if 0 in x.shape[-2:]:
        return xp.sum(x, axis=(-2, -1)) + NAN
    return xp.mean(xp.abs(log_partition(x)), axis=-1) * resolution


INDICATOR = Indicator(
    function=logit_rounding,
    unit="nats",
    low=0.0,
    cost="C1",
    invariances=("permute-samples", "permute-entries"),
    at_initialisation="ln K times the resolution for small logits: 0.03 in bfloat16 for 1000 classes",
)
