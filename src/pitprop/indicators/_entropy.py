"""Shannon entropy of weights, the arithmetic that four indicators share."""

from pitprop._array import NAN, divide, namespace


def shares(weights):
    """Weights along the last axis divided by their sum; NaN where they are no distribution (a negative, a zero sum)."""
    xp = namespace(weights)
    total = xp.sum(weights, axis=-1, keepdims=True)
    sound = xp.all(weights >= 0, axis=-1, keepdims=True) & xp.isfinite(total)
    return divide(xp.where(sound, weights, NAN), xp.where(sound, total, 1.0))


def entropy(p):
    """Entropy in nats of shares along the last axis, with 0 ln 0 = 0; a NaN stays a NaN."""
    xp = namespace(p)
    return -xp.sum(p * xp.log(xp.where(p == 0, 1.0, p)), axis=-1)


def over_maximum(nats, count):
    """`nats / ln(count)` in [0, 1]; NaN where `count` is under 2, because the largest entropy is then 0."""
    xp = namespace(nats)
    enough = xp.broadcast_to(count > 1, nats.shape)
    ceiling = xp.log(xp.where(enough, count, 2.0))
    return xp.where(enough, xp.clip(nats / ceiling, 0.0, 1.0), NAN)
