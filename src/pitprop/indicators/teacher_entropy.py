"""How undecided a teacher's targets are."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace
from pitprop.indicators._entropy import entropy, over_maximum, shares
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def teacher_entropy(targets: Float[Array, "*batch sample class"]) -> Float[Array, "*batch"]:
    """Mean normalised entropy of a batch of target distributions: 1 is uniform, 0 is one prototype each.

    Args:
        targets: The teacher's distribution per sample, after centring and temperature; normalised here.

    Returns:
        Pure number in [0, 1]; NaN with fewer than two prototypes or without samples.

    Raises:
        PitpropError: `targets` has fewer than two axes.

    Cost: one pass over the targets. Source: Caron et al., "DINO", arXiv 2104.14294.
    """
    expect_axes("teacher_entropy", "sample class", targets=targets)
    x = accumulate(targets)
    xp = namespace(x)
    if x.shape[-2] == 0 or x.shape[-1] < 2:
        return xp.sum(x, axis=(-2, -1)) * 0 + NAN
    nats = entropy(shares(x))
    return xp.mean(over_maximum(nats, xp.ones_like(nats) * x.shape[-1]), axis=-1)


INDICATOR = Indicator(
    function=teacher_entropy,
    unit="1",
    low=0.0,
    high=1.0,
    cost="C1",
    invariances=("scale", "permute-samples", "permute-entries"),
    at_initialisation="0.50 to 0.51 for a random network with normalised prototypes at temperature 0.04, as in DINO",
)
