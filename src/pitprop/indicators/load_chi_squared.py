"""Is a router's imbalance more than chance?"""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._entropy import shares
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def load_chi_squared(routing: Float[Array, "*batch token expert"]) -> Float[Array, "*batch"]:
    """Chi-squared of the experts' loads against a balanced multinomial, over its degrees of freedom.

    About 1 where each token goes to one expert at random, less where tokens are split; the standard deviation at
    balance is sqrt(2 / (experts - 1)). It grows with the number of tokens: it says "beyond chance", `load_entropy` how
    much.

    Args:
        routing: Each token's weights over the experts (after top-k, zeros where it does not go); normalised here.

    Returns:
        Pure number from 0 up; NaN with one expert, without tokens, or with a token that goes nowhere.

    Raises:
        PitpropError: `routing` has fewer than two axes.

    Cost: one pass over the weights. Source: Pearson's test.
    """
    expect_axes("load_chi_squared", "token expert", routing=routing)
    x = accumulate(routing)
    xp = namespace(x)
    tokens, experts = x.shape[-2:]
    if tokens == 0 or experts < 2:
        return xp.sum(x, axis=(-2, -1)) * 0 + NAN
    away = xp.mean(shares(x), axis=-2) - 1 / experts
    return xp.sum(away * away, axis=-1) * (tokens * experts / (experts - 1))


INDICATOR = Indicator(
    function=load_chi_squared,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries"),
    at_initialisation="0.03 to 1.5 for a random linear router of width 128, top 2 of 4 to 64 experts; "
    "exactly 0 for a zero-initialised one",
)
