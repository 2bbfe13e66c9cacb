"""Logits against labels: one-hot rows, marginals and cross-entropy, which the class indicators share."""

from typing import NamedTuple

from pitprop._array import NAN, accumulate, divide, like, namespace
from pitprop._errors import PitpropError
from pitprop.indicators._expect import expect_axes


def one_hot(labels, num_classes: int):
    """ "*batch sample class" of ones and zeros; a row of zeros for a label outside the classes, of NaN for a NaN."""
    xp = namespace(labels)
    hot = xp.astype(labels[..., None] == like(range(num_classes), labels), labels.dtype)
    return xp.where(xp.isnan(labels)[..., None], NAN, hot)


def log_partition(logits):
    """ln sum exp along the last axis; NaN for a row with a NaN or +inf, or of nothing but -inf."""
    xp = namespace(logits)
    peak = xp.max(logits, axis=-1, keepdims=True)
    usable = xp.isfinite(peak)
    peak = xp.where(usable, peak, 0.0)
    total = xp.sum(xp.where(usable, xp.exp(xp.where(usable, logits - peak, 0.0)), NAN), axis=-1)
    return xp.log(total) + peak[..., 0]


class Marginals(NamedTuple):
    """What the labels and the predictions of a batch are made of, and how well they agree."""

    labels: object
    """"*batch class": shares of the labels."""
    predicted: object
    """"*batch class": mean softmax over the samples."""
    answers: object
    """"*batch class": shares of the most likely class."""
    cross_entropy: object
    """"*batch": mean over the labelled samples, nats."""


def marginals(indicator: str, logits, labels) -> Marginals:
    """Marginals over the samples with a label; a negative label (padding, `ignore_index`) has none.

    Raises:
        PitpropError: Shapes that do not fit together.
    """
    expect_axes(indicator, "sample class", logits=logits)
    if tuple(logits.shape[:-1]) != tuple(labels.shape):
        raise PitpropError(
            f"`{indicator}` got `logits` of shape {tuple(logits.shape)} and `labels` of shape {tuple(labels.shape)}",
            means="Every sample has one label, the index of its class.",
            do="Pass logits as `*batch sample class` and labels as `*batch sample`.",
        )
    x, y = accumulate(logits), accumulate(labels)
    xp = namespace(x, y)
    num_classes = x.shape[-1]
    y = xp.astype(y, x.dtype)
    hot = one_hot(y, num_classes)
    kept = xp.sum(hot, axis=-1, keepdims=True)
    z = log_partition(x)
    undefined = xp.isnan(z)[..., None]
    count = xp.sum(kept, axis=-2)
    softmax = xp.exp(x - z[..., None])
    answer = xp.astype(xp.argmax(xp.where(xp.isnan(x), 0.0, x), axis=-1), x.dtype)
    answer = xp.where(undefined, NAN, one_hot(answer, num_classes))
    # A class that is masked by -inf and isn't the label counts nothing; 0 * -inf would be NaN.
    chosen = xp.sum(xp.where(hot == 0, 0.0, hot * x), axis=-1)
    return Marginals(
        divide(xp.sum(hot, axis=-2), count),
        divide(xp.sum(kept * softmax, axis=-2), count),
        divide(xp.sum(kept * answer, axis=-2), count),
        divide(xp.sum(kept[..., 0] * (z - chosen), axis=-1), count[..., 0]),
    )
