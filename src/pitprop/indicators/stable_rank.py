"""A rank that ignores the small directions."""

from jaxtyping import Float

from pitprop._array import Array, divide, namespace
from pitprop.indicators._facts import Indicator
from pitprop.indicators._spectrum import singular_values


def stable_rank(
    samples: Float[Array, "*batch sample width"], *, centre: bool = False, rows: int | None = None
) -> Float[Array, "*batch"]:
    """Stable rank |X|_F^2 / s_max^2: how many directions are as strong as the strongest.

    Args:
        samples: Activations or a weight matrix.
        centre: Take the mean row off first.
        rows: Use only this many rows, evenly spaced.

    Returns:
        Pure number in [1, min(sample, width)]; NaN for a matrix of zeros, without entries, or with a non-finite one.

    Raises:
        PitpropError: `samples` has fewer than two axes.

    Cost: one set of singular values, n d min(n, d). Source: Rudelson and Vershynin 2007, arXiv math/0503442.
    """
    s = singular_values("stable_rank", samples, centre=centre, rows=rows)
    xp = namespace(s)
    largest = s[..., 0] ** 2
    return xp.clip(divide(xp.sum(s * s, axis=-1), largest), 1.0, float(s.shape[-1]))


INDICATOR = Indicator(
    function=stable_rank,
    unit="directions",
    low=1.0,
    cost="C2",
    invariances=("scale", "permute-samples", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="n d / (sqrt(n) + sqrt(d))^2 for an n x d Gaussian matrix, a quarter of n "
    "if square (Bai-Yin edge)",
)
