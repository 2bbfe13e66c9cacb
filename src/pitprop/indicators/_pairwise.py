"""Distances between the samples of a batch, at a cost that does not grow with the batch."""

from pitprop._array import accumulate, every, matmul, namespace, size
from pitprop.indicators._expect import expect_axes


def sampled_rows(indicator: str, array, rows: int):
    """At most `rows` samples, evenly spaced, each flattened: "sample feature"."""
    expect_axes(indicator, "sample", array=array)
    x = accumulate(array)
    x = x[every(rows, x.shape[0]), ...]
    return namespace(x).reshape(x, (x.shape[0], size(x) // max(x.shape[0], 1)))


def distances(x):
    """Euclidean distances between all rows of "sample feature", with an error near 1e-3 of the rows' spread.

    From the Gram matrix, because all differences at once would take sample^2 * feature numbers. Taking the first row
    off makes equal rows exactly zero; taking the mean off then keeps the cancellation relative to the spread.
    """
    xp = namespace(x)
    x = x - x[:1, :]
    x = x - xp.mean(x, axis=0, keepdims=True)
    gram = matmul(x, xp.matrix_transpose(x))
    squares = xp.linalg.diagonal(gram)
    return xp.sqrt(xp.clip(squares[:, None] + squares[None, :] - 2 * gram, 0.0, None))
