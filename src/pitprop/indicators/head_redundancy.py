"""Do the heads of an attention look at different things?"""

from jaxtyping import Bool, Float

from pitprop._array import Array, accumulate, divide, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator
from pitprop.indicators.token_cosine import token_cosine


def head_redundancy(
    weights: Float[Array, "*batch head query key"], *, visible: Bool[Array, "*#batch #head #query #key"] | None = None
) -> Float[Array, "*batch"]:
    """Mean cosine over all pairs of heads of what their maps have beyond uniform attention: 1 is one head, copied.

    Heads that are exactly uniform have no pattern and are left out; fewer than two others give NaN.

    Args:
        weights: Attention after the softmax.
        visible: True where the query may attend to the key; all keys where absent.

    Returns:
        Pure number in [-1, 1].

    Raises:
        PitpropError: `weights` has fewer than three axes.

    Cost: one pass over the weights. Source: Michel, Levy and Neubig 2019, arXiv 1905.10650 (heads that can be taken
    away); the measure is own.
    """
    expect_axes("head_redundancy", "head query key", weights=weights)
    p = accumulate(weights)
    xp = namespace(p)
    shown = xp.broadcast_to(xp.ones_like(p, dtype=xp.bool) if visible is None else visible, p.shape)
    count = xp.sum(xp.astype(shown, p.dtype), axis=-1, keepdims=True)
    total = xp.sum(xp.where(shown, p, 0.0), axis=-1, keepdims=True)
    beyond = xp.where(shown & (count > 0), p - divide(total, count), 0.0)
    return token_cosine(xp.reshape(beyond, (*p.shape[:-2], p.shape[-2] * p.shape[-1])))


INDICATOR = Indicator(
    function=head_redundancy,
    unit="1",
    low=-1.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries"),
    at_initialisation="within 0.05 of 0: heads are drawn independently",
)
