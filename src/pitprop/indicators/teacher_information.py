"""What a teacher's targets say about the input."""

import math

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._entropy import entropy, shares
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def teacher_information(targets: Float[Array, "*batch sample class"]) -> Float[Array, "*batch"]:
    """Entropy of the mean target minus the mean entropy of the targets, over the most that it could be.

    This is the mutual information of sample and prototype within the batch. It is 0 at both ends of the collapse: when
    every target is the same prototype, and when every target is uniform.

    Args:
        targets: The teacher's distribution per sample, after centring and temperature; normalised here.

    Returns:
        Pure number in [0, 1], in units of ln min(sample, class); NaN with fewer than two of either.

    Raises:
        PitpropError: `targets` has fewer than two axes.

    Cost: one pass over the targets. Source: Caron et al., "DINO", arXiv 2104.14294 (the two collapses, section 5.3).
    """
    expect_axes("teacher_information", "sample class", targets=targets)
    x = accumulate(targets)
    xp = namespace(x)
    most = min(x.shape[-2:])
    if most < 2:
        return xp.sum(x, axis=(-2, -1)) * 0 + NAN
    p = shares(x)
    nats = entropy(xp.mean(p, axis=-2)) - xp.mean(entropy(p), axis=-1)
    return xp.clip(nats / math.log(most), 0.0, 1.0)


INDICATOR = Indicator(
    function=teacher_information,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries"),
    at_initialisation="0.35 to 0.41 for a random network with normalised prototypes at temperature 0.04, as in DINO",
)
