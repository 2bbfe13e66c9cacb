"""Numbers that follow from the others of a measured step: of the run as a whole, and of stacks of blocks."""

import math
from collections.abc import Mapping

import numpy as np

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
