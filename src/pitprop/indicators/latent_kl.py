"""What a Gaussian latent says about its input, at most."""

from jaxtyping import Float

from pitprop._array import Array, accumulate, namespace
from pitprop.indicators._expect import expect_axes, expect_same_shape
from pitprop.indicators._facts import Indicator


def latent_kl(
    mean: Float[Array, "*batch sample latent"], log_variance: Float[Array, "*batch sample latent"]
) -> Float[Array, "*batch"]:
    """KL(q(z|x) || N(0, 1)), summed over the latents, mean over the samples, in nats.

    Its mean over the data bounds the mutual information of input and latent from above: under ln 2 nats the latent
    can't carry one bit.

    Args:
        mean: Means of the posterior.
        log_variance: Logarithms of its variances.

    Returns:
        Nats, from 0 up; NaN without samples.

    Raises:
        PitpropError: Too few axes, or shapes that differ.

    Cost: one pass over both. Source: Kingma and Welling 2014, arXiv 1312.6114; the bound: Hoffman and Johnson 2016.
    """
    expect_axes("latent_kl", "sample latent", mean=mean, log_variance=log_variance)
    expect_same_shape("latent_kl", mean=mean, log_variance=log_variance)
    m, v = accumulate(mean), accumulate(log_variance)
    xp = namespace(m, v)
    v = xp.clip(v, None, 80.0)  # exp(80) is 5e34: infinite for every purpose, and no overflow
    nats = 0.5 * xp.sum(m * m + (xp.expm1(v) - v), axis=-1)
    samples = m.shape[-2]
    return xp.sum(nats, axis=-1) / samples if samples else xp.sum(nats, axis=-1) + float("nan")


INDICATOR = Indicator(
    function=latent_kl,
    unit="nats",
    low=0.0,
    cost="C1",
    invariances=("permute-samples",),
    at_initialisation="half of the latents' summed squared means for variances near 1; 0 for a zero-initialised head",
)
