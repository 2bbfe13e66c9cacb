"""Length of a gradient that lies in several arrays."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, namespace, norm
from pitprop.indicators._facts import Indicator


def gradient_norm(gradients: Sequence[Float[Array, "..."] | None]) -> Float[Array, ""]:
    """Euclidean norm over all entries of all arrays; squares neither overflow nor underflow.

    An exact 0 therefore means that every entry is 0. The value has the unit of loss over weight: compare it with
    itself over time, or through `gradient_share`, never with a fixed number (Adam does not see its scale).

    Args:
        gradients: One array per parameter; `None` (no gradient) is skipped.

    Returns:
        Scalar from 0 up; infinite or NaN where an entry is, NaN where there is no array.

    Cost: one pass over the gradients. Source: textbook.
    """
    arrays = [accumulate(gradient) for gradient in gradients if gradient is not None]
    if not arrays:
        return np.asarray(NAN, dtype=np.float32)
    xp = namespace(*arrays)
    lengths = [norm(array) for array in arrays]
    common = xp.result_type(*[length.dtype for length in lengths])
    return norm(xp.stack([xp.astype(length, common) for length in lengths]))


INDICATOR = Indicator(
    function=gradient_norm,
    unit="loss per weight",
    low=0.0,
    cost="C1",
    invariances=("permute-entries", "permute-samples", "rotate-width", "flip-sign"),
    at_initialisation="set by the loss and the parametrisation; the reference is its own value in the first steps",
)
