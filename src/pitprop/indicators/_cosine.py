"""The angle between two arrays of one shape, taken as vectors."""

from pitprop._array import NAN, accumulate, divide, namespace, norm
from pitprop.indicators._expect import expect_same_shape


def cosine(indicator: str, **arrays):
    """Cosine of the angle between the two `arrays`; NaN where one of them has no length."""
    expect_same_shape(indicator, **arrays)
    a, b = (accumulate(array) for array in arrays.values())
    xp = namespace(a, b)
    lengths = norm(a), norm(b)
    # Each over its own length first: no product can overflow or vanish.
    value = xp.sum(divide(a, lengths[0]) * divide(b, lengths[1]))
    return xp.where((lengths[0] == 0) | (lengths[1] == 0), NAN, xp.clip(value, -1.0, 1.0))
