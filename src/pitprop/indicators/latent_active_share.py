"""Latents whose posterior still moves with the input."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def latent_active_share(
    mean: Float[Array, "*batch sample latent"], *, variance: float = 0.01
) -> Float[Array, "*batch"]:
    """Share of latents whose posterior mean varies over the samples by more than `variance`.

    Args:
        mean: Means of the posterior, for a batch of different inputs; the prior has unit variance.
        variance: Variance above which a latent is active. 0.01 is Burda's convention.

    Returns:
        Pure number in [0, 1]; NaN with fewer than two samples or without latents.

    Raises:
        PitpropError: `mean` has fewer than two axes.

    Cost: two passes over the means. Source: Burda, Grosse and Salakhutdinov 2016, arXiv 1509.00519 (active units).
    """
    expect_axes("latent_active_share", "sample latent", mean=mean)
    m = accumulate(mean)
    xp = namespace(m)
    if m.shape[-2] < 2 or m.shape[-1] == 0:
        return xp.sum(m, axis=(-2, -1)) + NAN
    away = m - xp.mean(m, axis=-2, keepdims=True)
    spread = xp.mean(away * away, axis=-2)
    return xp.mean(xp.where(xp.isnan(spread), NAN, xp.astype(spread > variance, m.dtype)), axis=-1)


INDICATOR = Indicator(
    function=latent_active_share,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("shift", "permute-samples", "permute-entries", "flip-sign"),
    at_initialisation="1 for means of unit size; 0 for a zero-initialised or narrow head, which wakes up",
)
