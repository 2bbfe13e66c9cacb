"""Is the work of a router spread over its experts?"""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._entropy import entropy, over_maximum, shares
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def load_entropy(routing: Float[Array, "*batch token expert"]) -> Float[Array, "*batch"]:
    """Normalised entropy of the experts' mean load: 1 is balanced, 0 is one expert for everything.

    Args:
        routing: Each token's weights over the experts (after top-k, zeros where it does not go); normalised here.

    Returns:
        Pure number in [0, 1]; NaN with one expert, without tokens, or with a token that goes nowhere.

    Raises:
        PitpropError: `routing` has fewer than two axes.

    Cost: one pass over the weights. Source: Zoph et al., "ST-MoE", arXiv 2202.08906 (load balance).
    """
    expect_axes("load_entropy", "token expert", routing=routing)
    x = accumulate(routing)
    xp = namespace(x)
    if x.shape[-2] == 0 or x.shape[-1] < 2:
        return xp.sum(x, axis=(-2, -1)) * 0 + NAN
    nats = entropy(xp.mean(shares(x), axis=-2))
    return over_maximum(nats, xp.ones_like(nats) * x.shape[-1])


INDICATOR = Indicator(
    function=load_entropy,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries"),
    at_initialisation="over 0.99 for a random linear router of width 128, top 2 of 4 to 64 experts; "
    "exactly 1 for a zero-initialised one",
)
