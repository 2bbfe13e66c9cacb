"""Attention that rests on the first key."""

from jaxtyping import Bool, Float

from pitprop._array import Array, accumulate, mean_where, namespace
from pitprop.indicators._entropy import shares
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def attention_sink(
    weights: Float[Array, "*batch query key"], *, visible: Bool[Array, "*#batch #query #key"] | None = None
) -> Float[Array, "*batch"]:
    """Mass on the first key beyond its fair share, as a part of what it could take: (p_1 - 1/n) / (1 - 1/n).

    0 is the share of any key among n visible ones, 1 is everything. Rows with one visible key, and rows that do not see
    the first key, are left out.

    Args:
        weights: Attention after the softmax. Rows need not sum to 1 (dropout): they are normalised here.
        visible: True where the query may attend to the key; all keys where absent.

    Returns:
        Pure number in [-1, 1], mean over the query rows; negative where the first key gets less than its share.

    Raises:
        PitpropError: `weights` has fewer than two axes.

    Cost: one pass over the weights. Source: Xiao et al., "Efficient streaming language models with attention sinks",
    arXiv 2309.17453.
    """
    expect_axes("attention_sink", "query key", weights=weights)
    p = accumulate(weights)
    xp = namespace(p)
    if p.shape[-1] < 2:
        return xp.sum(p, axis=(-2, -1)) + float("nan")
    if visible is not None:
        p = xp.where(visible, p, 0.0)
    shown = xp.broadcast_to(xp.ones_like(p, dtype=xp.bool) if visible is None else visible, p.shape)
    count = xp.sum(xp.astype(shown, p.dtype), axis=-1)
    chosen = (count > 1) & shown[..., 0] & (xp.sum(p, axis=-1) != 0)
    fair = 1 / xp.where(count > 1, count, 2.0)
    return mean_where((shares(p)[..., 0] - fair) / (1 - fair), chosen, axis=-1)


INDICATOR = Indicator(
    function=attention_sink,
    unit="1",
    low=-1.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-samples"),
    at_initialisation="within 0.03 of 0: no position is special before training",
)
