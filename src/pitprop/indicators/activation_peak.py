"""Activations that dwarf all others."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def activation_peak(tokens: Float[Array, "*batch token width"]) -> Float[Array, "*batch"]:
    """Largest magnitude over the median magnitude of a stream.

    Args:
        tokens: Activations, such as the residual stream after a block.

    Returns:
        Pure number from 1 up; NaN where the median is 0, without entries, or with a NaN.

    Raises:
        PitpropError: `tokens` has fewer than two axes.

    Cost: one sort. Source: Sun et al., "Massive activations in large language models", arXiv 2402.17762, who call 1000
    times the median massive.
    """
    expect_axes("activation_peak", "token width", tokens=tokens)
    x = accumulate(tokens)
    xp = namespace(x)
    entries = x.shape[-2] * x.shape[-1]
    if entries == 0:
        return xp.sum(x, axis=(-2, -1)) + NAN
    magnitude = xp.sort(xp.abs(xp.reshape(x, (*x.shape[:-2], entries))), axis=-1)
    median = magnitude[..., (entries - 1) // 2]  # the lower one of two: it is an entry, so the ratio is at least 1
    ratio = divide(magnitude[..., -1], median)
    return xp.where(xp.all(xp.isfinite(magnitude), axis=-1), ratio, NAN)


INDICATOR = Indicator(
    function=activation_peak,
    unit="1",
    low=1.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries", "flip-sign"),
    at_initialisation="sqrt(2 ln n) / 0.67 for n Gaussian entries: 6 for ten thousand, 8 for a million",
)
