"""How many dimensions embeddings use, against noise of the same shape."""

from functools import cache

import numpy as np
from jaxtyping import Float

from pitprop._array import Array
from pitprop.indicators._facts import Indicator
from pitprop.indicators.effective_rank import effective_rank


def embedding_rank(
    embeddings: Float[Array, "*batch sample width"], *, rows: int | None = 512
) -> Float[Array, "*batch"]:
    """Effective rank of the centred embeddings over that of Gaussian noise of the same shape.

    RankMe grows with the batch and the width. The Marchenko-Pastur law says what N independent Gaussian rows of width d
    would have, so 1 is "as spread out as noise", for any batch and width.

    Args:
        embeddings: One per sample, of different inputs.
        rows: Use only this many samples, evenly spaced.

    Returns:
        Pure number from 0 up; NaN with fewer than two samples, or where all are the same.

    Raises:
        PitpropError: `embeddings` has fewer than two axes.

    Cost: one set of singular values. Source: Garrido et al. 2023, arXiv 2210.02885; Marchenko and Pastur 1967.
    """
    found = effective_rank(embeddings, centre=True, rows=rows)
    samples = embeddings.shape[-2] if rows is None else min(rows, embeddings.shape[-2])
    return found / rank_of_noise(max(samples - 1, 1), max(embeddings.shape[-1], 1))  # centring takes one row


@cache
def rank_of_noise(samples: int, width: int) -> float:
    """Effective rank of a Gaussian matrix, from the Marchenko-Pastur law of its squared singular values."""
    small, large = sorted((samples, width))
    gamma = small / large
    # With lambda = 1 + gamma + 2 sqrt(gamma) cos(theta) the law's density is smooth: 2 sin^2 / (pi lambda).
    theta = (np.arange(4096) + 0.5) * np.pi / 4096
    squared = 1 + gamma + 2 * np.sqrt(gamma) * np.cos(theta)
    density = 2 * np.sin(theta) ** 2 / squared
    density /= density.sum()
    value = np.sqrt(squared)
    mean = (density * value).sum()
    return float(small * mean * np.exp(-(density * value * np.log(value)).sum() / mean))


INDICATOR = Indicator(
    function=embedding_rank,
    unit="1",
    low=0.0,
    cost="C2",
    invariances=("scale", "permute-samples", "permute-entries", "rotate-width", "flip-sign"),
    at_initialisation="0.8 after one random layer on independent inputs, 0.4 after 6 linear layers with ReLU",
)
