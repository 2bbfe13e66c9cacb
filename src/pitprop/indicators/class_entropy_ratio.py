"""How many of the labels' classes the answers still use."""

from jaxtyping import Float, Int

from pitprop._array import Array, divide
from pitprop.indicators._classes import marginals
from pitprop.indicators._entropy import entropy
from pitprop.indicators._facts import Indicator


def class_entropy_ratio(
    logits: Float[Array, "*batch sample class"], labels: Int[Array, "*batch sample"]
) -> Float[Array, "*batch"]:
    """Entropy of the answers' classes over that of the labels' classes: 0 when every answer is one class.

    The answer is the most likely class. A network that has learned the prior and nothing else answers with the
    commonest class everywhere, although its mean softmax equals the prior.

    Args:
        logits: Before the softmax.
        labels: Index of the class; a negative one leaves its sample out.

    Returns:
        Pure number from 0 up; NaN where all labels are the same class, or none is left.

    Raises:
        PitpropError: Shapes that do not fit together.

    Cost: two passes over the logits. Source: own; the marginal against the prior, as in Lin et al., arXiv 1708.02002.
    """
    found = marginals("class_entropy_ratio", logits, labels)
    return divide(entropy(found.answers), entropy(found.labels))


INDICATOR = Indicator(
    function=class_entropy_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    at_initialisation="anything: a linear head on random features may answer with one class or with all",
)
