"""Singular values that survive NaN: what `effective_rank` and `stable_rank` are made of."""

from pitprop._array import NAN, accumulate, every, namespace, size
from pitprop.indicators._expect import expect_axes


def singular_values(indicator: str, matrix, *, centre: bool, rows: int | None):
    """Singular values of "*batch row column", largest first, over their largest entry's scale; NaN for a matrix with
    a NaN, an infinity or nothing in it (LAPACK would raise)."""
    expect_axes(indicator, "row column", matrix=matrix)
    x = accumulate(matrix)
    xp = namespace(x)
    if size(x) == 0:
        return xp.zeros((*x.shape[:-2], 1), dtype=x.dtype) + NAN
    if rows is not None:
        x = x[..., every(rows, x.shape[-2]), :]
    peak = xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)
    usable = xp.isfinite(peak)
    # Ranks do not depend on scale; at entries of at most 1 no square can overflow.
    x = xp.where(usable, x, 0.0) / xp.where(usable & (peak > 0), peak, 1.0)
    if centre:
        x = x - xp.mean(x, axis=-2, keepdims=True)
    return xp.where(usable[..., 0], xp.linalg.svdvals(x), NAN)
