"""Low-rank adapters, known by the names that LoRA's implementations give them, beside the layers that they adapt."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pitprop.indicators import adapter_ratio, displacement_ratio
from pitprop.watch._quiet import is_plain, quiet

PAIRS = (("lora_A", "lora_B"), ("lora_a", "lora_b"))
ITERATIONS = 16
"""Of the power method on the base weight; what it misses makes the base look smaller, by a few per cent at most."""


class Adapters:
    """Every pair of factors `lora_A`, `lora_B` (peft, loralib, torchtune) of a model.

    Args:
        model: The model, with its adapters in it.
    """

    def __init__(self, model: nn.Module):
        self._found = [(module, *pair) for module in model.modules() for pair in _pairs(module)]
        self._bases: dict[nn.Parameter, tuple[int, Tensor]] = {}
        self._from_zero: dict[nn.Parameter, bool] = {}

    def measure(self, optimizers: Sequence[Optimizer]) -> list[tuple[str, nn.Module, Tensor]]:
        """`(indicator, module, value)` of every adapter that is not frozen, between two steps."""
        rates = {p: (one, group["lr"]) for one in optimizers for group in one.param_groups for p in group["params"]}
        found = []
        with quiet():
            for module, down, up, scaling in self._found:
                if not (down.requires_grad or up.requires_grad) or not (is_plain(down) and is_plain(up)):
                    continue
                base = _base(module)
                if base is not None and is_plain(base):
                    found.append(("adapter_ratio", module, adapter_ratio(up * scaling, down, self._norm(base))))
                if up not in self._from_zero:
                    self._from_zero[up] = not bool(up.any())
                optimizer, lr = rates.get(up, (None, math.nan))
                state = {} if optimizer is None else optimizer.state.get(up, {})
                if self._from_zero[up] and "exp_avg_sq" in state:  # whose steps have the learning rate's size
                    moved = displacement_ratio(up, lr=float(lr), steps=int(state["step"]))
                    found.append(("displacement_ratio", module, moved))
        return found

    def _norm(self, base: nn.Parameter) -> Tensor:
        """Spectral norm of a base weight, computed again only when it has changed."""
        version, known = self._bases.get(base, (-1, None))
        if known is None or version != base._version:
            known = spectral_norm(base.detach().float())
            self._bases[base] = base._version, known
        return known


def spectral_norm(weight: Tensor) -> Tensor:
    """Largest singular value of a matrix by the power method, from a fixed start: no random number is drawn."""
    vector = torch.cos(torch.arange(weight.shape[1], device=weight.device, dtype=weight.dtype) ** 2)
    for _ in range(ITERATIONS):
        vector = weight.T @ (weight @ vector)
        vector = vector / vector.norm().clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight @ vector).norm()


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter, float]]:
    for first, second in PAIRS:
        downs, ups = _factors(getattr(module, first, None)), _factors(getattr(module, second, None))
        for name, down in downs.items():
            up = ups.get(name)
            if up is not None and down.dim() == up.dim() == 2 and up.shape[1] == down.shape[0]:
                yield down, up, _scaling(module, name, down.shape[0])


def _factors(holder: Any) -> dict[str, nn.Parameter]:
    """The factors in what `lora_A` is: a parameter, a linear layer, or several of either by an adapter's name."""
    if isinstance(holder, nn.Parameter):
        return {"": holder}
    if isinstance(holder, (nn.ModuleDict, nn.ParameterDict)):
        return {name: factor for name, one in holder.items() for factor in _factors(one).values()}
    weight = getattr(holder, "weight", None)
    return {"": weight} if isinstance(weight, nn.Parameter) else {}


def _scaling(module: nn.Module, name: str, rank: int) -> float:
    scaling = getattr(module, "scaling", None)
    if isinstance(scaling, dict):
        scaling = scaling.get(name)
    if isinstance(scaling, (int, float)):
        return float(scaling)
    alpha = getattr(module, "alpha", None)  # torchtune
    return float(alpha) / rank if isinstance(alpha, (int, float)) else 1.0


def _base(module: nn.Module) -> nn.Parameter | None:
    weight = getattr(getattr(module, "base_layer", module), "weight", None)
    return weight if isinstance(weight, nn.Parameter) and weight.dim() == 2 else None
