"""How far the predicted class marginal is from the labels'."""

from jaxtyping import Float, Int

from pitprop._array import Array, namespace
from pitprop.indicators._classes import marginals
from pitprop.indicators._facts import Indicator


def class_divergence(
    logits: Float[Array, "*batch sample class"], labels: Int[Array, "*batch sample"]
) -> Float[Array, "*batch"]:
    """KL(labels || mean softmax) over the classes, in nats: 0 when the mean prediction has the labels' proportions.

    It is 0 for a network that knows the prior and nothing else, so it says which way a classifier is wrong and never
    that it is right.

    Args:
        logits: Before the softmax.
        labels: Index of the class; a negative one leaves its sample out.

    Returns:
        Nats, from 0 up; infinite where a class of the labels has no probability at all.

    Raises:
        PitpropError: Shapes that do not fit together.

    Cost: two passes over the logits. Source: textbook.
    """
    found = marginals("class_divergence", logits, labels)
    p, q = found.labels, found.predicted
    xp = namespace(p, q)
    present = p != 0  # a NaN is present
    missing = present & (q == 0)
    ratio = xp.where(present & ~missing, p / xp.where(q == 0, 1.0, q), 1.0)
    nats = xp.sum(xp.where(missing, float("inf"), p * xp.log(ratio)), axis=-1)
    return xp.clip(nats, 0.0, None)


INDICATOR = Indicator(
    function=class_divergence,
    unit="nats",
    low=0.0,
    cost="C1",
    at_initialisation="ln K minus the label entropy for zero logits",
)
