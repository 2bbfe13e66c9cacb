"""Gradients that are exactly zero, and parameters that may have such by right."""

import math
from collections.abc import Mapping

from torch import nn


def excused(model: nn.Module) -> frozenset[nn.Parameter]:
    """Parameters whose gradient may be exactly zero by right.

    Biases: those of keys (the softmax takes a shift of all logits out) and those in front of a normalisation (it takes
    the mean out). Embeddings: the batch may use none of a small table's rows.
    """
    return frozenset(
        parameter
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and ("bias" in name or isinstance(module, (nn.Embedding, nn.EmbeddingBag)))
    )


def zero_gradients(
    norms: Mapping[nn.Parameter, float], owners: Mapping[nn.Parameter, str], excuse: frozenset[nn.Parameter]
) -> dict[str, dict[str, float]]:
    """Share of each module whose gradient is exactly zero; NaN everywhere if there is no gradient at all."""
    zero: dict[str, float] = {}
    total: dict[str, float] = {}
    for parameter, site in owners.items():
        if parameter in norms and parameter not in excuse:
            size = parameter.numel() if not math.isnan(norms[parameter]) else math.nan
            total[site] = total.get(site, 0) + size
            zero[site] = zero.get(site, 0) + (size if norms[parameter] == 0 else 0 * size)
    if not total:
        return {}
    alive = any(norm > 0 for norm in norms.values())
    return {"zero_gradient_share": {site: zero[site] / total[site] if alive else math.nan for site in total}}
