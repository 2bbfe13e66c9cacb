"""Fréchet distance between two sets of feature vectors: FID, with features of one's own.

FID (Heusel et al. 2017, arXiv 1706.08500) uses an Inception network. Without a download the features are a small
classifier's that was trained on the same data; numbers compare within one case only. It is biased upwards when there
are few vectors, so compare sets of one size.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def frechet_distance(a: Float[ndarray, "n feature"], b: Float[ndarray, "m feature"]) -> float:
    """Squared Fréchet distance between normal distributions fitted to `a` and `b`; at least 0.

    Returns:
        |mean a - mean b|² + tr(A + B - 2 (A B)^½), in squared units of the features. NaN with fewer than two vectors on
        either side, or where a feature isn't finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # The trace of the root of AB is the sum of the singular values of A^½ B^½: no root of an unsymmetric matrix.
    roots = (_root(cov) for cov in (cov_a, cov_b))
    shared = np.linalg.svd(np.matmul(*roots), compute_uv=False).sum()
    return max(0.0, float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * shared))


def _root(cov: ndarray) -> ndarray:
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
