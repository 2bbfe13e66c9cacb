"""Numbers that follow from the others of a measured step: of the run as a whole, and of stacks of blocks."""

import math
from collections.abc import Mapping

import numpy as np
from torch import nn

from pitprop.indicators import stream_growth
from pitprop.records import RUN
from pitprop.watch.sites import ROOT

Values = dict[str, dict[str, float]]


def derived(values: Mapping[str, Mapping[str, float]], loss_scale: float | None) -> Values:
    """`{indicator: {site: value}}`.

    Args:
        values: What was measured in the step.
        loss_scale: Factor of the loss (`GradScaler`), where there is one.
    """
    found: Values = {}
    norms = values.get("gradient_norm", {})
    if norms:
        found["num_trained"] = {RUN: float(len(norms))}
        found["whole_gradient_norm"] = {RUN: math.hypot(*norms.values())}
    if loss_scale is not None:
        found["loss_scale"] = {RUN: loss_scale}
    stacks: dict[str, list[float]] = {}
    for site, value in values.get("stream_norm", {}).items():
        stack, _, number = site.rpartition(".")
        if number.isdigit():
            stacks.setdefault(stack or ROOT, []).append(value)
    growth = {site: float(stream_growth(np.asarray(norms))) for site, norms in stacks.items() if len(norms) > 1}
    return found | ({"stream_growth": growth} if growth else {})


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
) -> Values:
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
