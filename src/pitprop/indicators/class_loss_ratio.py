"""Is the classifier better than one that knows nothing but how common the classes are?"""

from jaxtyping import Float, Int

from pitprop._array import Array, divide, namespace
from pitprop.indicators._classes import marginals
from pitprop.indicators._entropy import entropy
from pitprop.indicators._facts import Indicator


def class_loss_ratio(
    logits: Float[Array, "*batch sample class"], labels: Int[Array, "*batch sample"]
) -> Float[Array, "*batch"]:
    """Cross-entropy over the entropy of the batch's labels: from 1 up, the input has not helped.

    Whatever loss is trained (weighted, focal), this one is the plain cross-entropy, whose floor without input is the
    entropy of the prior. A batch's own label entropy is the smaller one on average, so chance does not lower the ratio.

    Args:
        logits: Before the softmax; of a network with another link (stablemax), its log-probabilities.
        labels: Index of the class; a negative one leaves its sample out.

    Returns:
        Pure number from 0 up; NaN where all labels are the same class, or none is left.

    Raises:
        PitpropError: Shapes that do not fit together.

    Cost: two passes over the logits. Source: the bias matched to the prior of Lin et al., arXiv 1708.02002.
    """
    found = marginals("class_loss_ratio", logits, labels)
    xp = namespace(found.cross_entropy)
    return divide(xp.clip(found.cross_entropy, 0.0, None), entropy(found.labels))


INDICATOR = Indicator(
    function=class_loss_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    at_initialisation="ln K over the label entropy for zero logits, so 1 for balanced classes; more for wide ones",
)
