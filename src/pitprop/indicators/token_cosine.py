"""How alike the tokens of one sequence have become."""

from jaxtyping import Float

from pitprop._array import Array, accumulate, divide, namespace, norm
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def token_cosine(tokens: Float[Array, "*batch token width"]) -> Float[Array, "*batch"]:
    """Mean cosine over all pairs of tokens: 1 means that every token points the same way (rank collapse).

    With u = x/|x| it is (|sum u|^2 - n) / (n (n - 1)), linear in the tokens. Tokens of zero length have no direction
    and are left out; fewer than two others give NaN.

    Args:
        tokens: Activations, such as the residual stream after a block. Cut padding off before.

    Returns:
        Pure number in [-1, 1]; never under -1/(n - 1).

    Raises:
        PitpropError: `tokens` has fewer than two axes.

    Cost: one pass over the tokens. Source: Dong et al. 2021, arXiv 2103.03404; Noci et al. 2022, arXiv 2206.03126.
    """
    expect_axes("token_cosine", "token width", tokens=tokens)
    x = accumulate(tokens)
    xp = namespace(x)
    length = norm(x, axis=-1)
    empty = length == 0  # a NaN length is not empty: it makes the result NaN
    u = x / xp.where(empty, 1.0, length)[..., None]
    n = xp.sum(xp.astype(~empty, x.dtype), axis=-1)
    # The sum of |u|^2 is n up to rounding; taking the rounded one off keeps the error of a small cosine small.
    together = xp.sum(xp.sum(u, axis=-2) ** 2, axis=-1) - xp.sum(xp.sum(u * u, axis=-1), axis=-1)
    return xp.clip(divide(together, n * (n - 1)), -1.0, 1.0)


INDICATOR = Indicator(
    function=token_cosine,
    unit="1",
    low=-1.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="from 0.02 after block 1 to 0.48 after block 6 of a pre-LN torch TransformerEncoder on "
    "independent tokens; attention without residual connections is at 1.000 within a few layers",
)
