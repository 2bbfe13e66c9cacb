"""Samples that a softmax is so sure of that its numbers can't say otherwise."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def certain_share(
    logits: Float[Array, "*batch sample class"], *, resolution: float = 2.0**-24
) -> Float[Array, "*batch"]:
    """Share of samples whose largest probability is exactly 1 in the type that the softmax is computed in.

    Such a sample has a loss of exactly 0 and no gradient where the answer is right, and a gradient that no longer
    depends on the logits where it is wrong.

    Args:
        logits: Before the softmax.
        resolution: Half the gap between 1 and the number above it: 2^-24 in float32, in which losses are computed
            also under autocast; 2^-8 in bfloat16, 2^-11 in float16.

    Returns:
        Pure number in [0, 1]; NaN without samples or classes, or with a NaN or +inf among the logits.

    Raises:
        PitpropError: `logits` has fewer than two axes.

    Cost: one pass over the logits. Source: softmax collapse, Prieto et al. 2025, arXiv 2501.04697.
    """
    expect_axes("certain_share", "sample class", logits=logits)
    x = accumulate(logits)
    xp = namespace(x)
    if 0 in x.shape[-2:]:
        return xp.sum(x, axis=(-2, -1)) + NAN
    peak = xp.max(x, axis=-1, keepdims=True)
    usable = xp.isfinite(peak)
    weights = xp.exp(xp.where(usable, x - xp.where(usable, peak, 0.0), 0.0))
    others = xp.sum(xp.where(x == peak, 0.0, weights), axis=-1)
    ties = xp.sum(xp.astype(x == peak, x.dtype), axis=-1)  # two equal maxima are never certain
    certain = xp.astype((others <= resolution) & (ties == 1), x.dtype)
    return xp.mean(xp.where(usable[..., 0], certain, NAN), axis=-1)


INDICATOR = Indicator(
    function=certain_share,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("permute-samples", "permute-entries"),
    at_initialisation="exactly 0: it takes a lead of 17 nats in float32",
)
