"""How many directions the samples really use: RankMe."""

from jaxtyping import Float

from pitprop._array import Array, namespace
from pitprop.indicators._entropy import entropy, shares
from pitprop.indicators._facts import Indicator
from pitprop.indicators._spectrum import singular_values


def effective_rank(
    samples: Float[Array, "*batch sample width"], *, centre: bool = False, rows: int | None = None
) -> Float[Array, "*batch"]:
    """Effective rank exp(H(s / sum s)) of the singular values s: 1 is one direction, min(sample, width) all alike.

    Args:
        samples: Tokens of a sequence, or embeddings of a batch.
        centre: Take the mean row off first. Off, as in RankMe, identical rows give 1, which is the collapse to be
            seen. On, a large common offset no longer hides the other directions, and identical rows are undefined.
        rows: Use only this many rows, evenly spaced; 256 to 512 are enough to follow a run.

    Returns:
        Pure number in [1, min(sample, width)]; NaN for a matrix of zeros, without entries, or with a non-finite one.

    Raises:
        PitpropError: `samples` has fewer than two axes.

    Cost: one set of singular values, n d min(n, d). Source: Garrido et al. 2023, arXiv 2210.02885, without its 1e-7.
    """
    s = singular_values("effective_rank", samples, centre=centre, rows=rows)
    xp = namespace(s)
    return xp.clip(xp.exp(entropy(shares(s))), 1.0, float(s.shape[-1]))


INDICATOR = Indicator(
    function=effective_rank,
    unit="directions",
    low=1.0,
    cost="C2",
    invariances=("scale", "permute-samples", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="0.80 of min(sample, width) for a square Gaussian matrix, more for others (measured)",
)
