"""What was measured in one step: scalars that stay on the device until the step ends, then one move to the host."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pitprop.indicators import gradient_share
from pitprop.watch._quiet import to_host

REPEATS = 8
"""Uses of one site in one forward pass that are told apart (`site`, `site#2`, ...); further ones are not kept."""


class Measured:
    """Numbers of one measured step, by indicator and site."""

    def __init__(self) -> None:
        self.norms: dict[nn.Parameter, Tensor] = {}
        """Gradient norm per parameter."""
        self.updates: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}
        """Norms of a parameter's change and of the parameter before it."""
        self._kept: list[tuple[str, str, Tensor]] = []
        self._maps: dict[str, Tensor] = {}
        self._uses: dict[tuple[str, str], int] = {}

    def new_forward(self) -> None:
        """A new outermost forward pass begins: a site's first use in it is the same as in the last one."""
        self._uses.clear()

    def keep(self, indicator: str, site: str, value: Float[Tensor, ""]) -> None:
        """Keep a scalar; the second use of a site in one forward pass is `site#2`."""
        uses = self._uses[indicator, site] = self._uses.get((indicator, site), 0) + 1
        if uses <= REPEATS:
            self._kept.append((indicator, _nth(site, uses), value))

    def keep_map(self, site: str, weights: Float[Tensor, "head query key"]) -> None:
        """Keep the attention map that belongs to the entropy kept last at `site`; the first one of a step stays."""
        uses = self._uses["attention_entropy", site]
        if uses <= REPEATS:
            self._maps.setdefault(_nth(site, uses), weights)

    def values(self, owners: Mapping[nn.Parameter, str], scale: float) -> dict[str, dict[str, float]]:
        """`{indicator: {site: value}}`: means over forward passes, and per owner what belongs to parameters.

        Args:
            owners: Parameter -> site of the module that owns it.
            scale: Factor of the loss (`GradScaler`), taken off gradient norms again.
        """
        # In the model's order: gradients come in the order of the backward pass, which may differ from step to step.
        with_gradient = [parameter for parameter in owners if parameter in self.norms]
        updated = [parameter for parameter in owners if parameter in self.updates]
        tensors = [tensor for *_, tensor in self._kept] + [self.norms[parameter] for parameter in with_gradient]
        numbers = iter(to_host(tensors + [tensor for parameter in updated for tensor in self.updates[parameter]]))
        uses: dict[str, dict[str, list[float]]] = {}
        for indicator, site, _ in self._kept:
            uses.setdefault(indicator, {}).setdefault(site, []).append(next(numbers))
        found = {i: {site: sum(v) / len(v) for site, v in at.items()} for i, at in uses.items()}
        gradients: dict[str, list[float]] = {}
        for parameter in with_gradient:
            gradients.setdefault(owners[parameter], []).append(next(numbers) / scale)
        if gradients:
            norms = [math.hypot(*values) for values in gradients.values()]
            shares = gradient_share(np.asarray(norms)).tolist()
            found["gradient_norm"] = dict(zip(gradients, norms, strict=True))
            found["gradient_share"] = dict(zip(gradients, shares, strict=True))
        changes: dict[str, list[tuple[float, float]]] = {}
        for parameter in updated:
            changes.setdefault(owners[parameter], []).append((next(numbers), next(numbers)))
        if changes:
            found["update_ratio"] = {site: _ratio(pairs) for site, pairs in changes.items()}
        return found

    def arrays(self) -> list[tuple[str, str, np.ndarray]]:
        """`(site, "attention", map)`, as float16 on the host."""
        return [(site, "attention", weights.to("cpu", torch.float16).numpy()) for site, weights in self._maps.items()]


def _nth(site: str, use: int) -> str:
    return site if use == 1 else f"{site}#{use}"


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """|update| / |weight| of a module from the norms of its parameters; NaN for weights of zeros."""
    change, weight = (math.hypot(*side) for side in zip(*pairs, strict=True))
    return change / weight if weight else math.nan
