"""What a measured step of the optimizers does: the weights' change, and what the optimizers' state says of it.

The relative change of every tensor is exact. Everything else is read from `COORDINATES` evenly spaced entries of each
tensor, the same ones in every step, so its cost does not grow with the model's width: one copy of them before the step,
one after, and one transfer at the step's end. Nothing is written, and no state is made.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pitprop.watch._coordinates import Facts, by_site
from pitprop.watch._quiet import is_plain, norm, quiet, to_host
from pitprop.watch.measured import Measured

COORDINATES = 256
"""Entries of a tensor that are looked at."""

HALVES = (torch.float16, torch.bfloat16)
SECOND = ("max_exp_avg_sq", "exp_avg_sq", "square_avg")
FIRST = ("exp_avg", "momentum_buffer")
"""Where optimizers keep their moments; those that keep them otherwise (factored, quantised) are left out."""


class Updates:
    """Looks at weights, gradients and optimizer state around the step of each optimizer.

    Args:
        owners: Parameter -> site of the module that owns it.
    """

    def __init__(self, owners: Mapping[nn.Parameter, str]):
        self._owners = owners
        self._strides = {parameter: _stride(parameter) for parameter in owners}
        self._weights: list[tuple[nn.Parameter, Tensor]] = []
        self._before: list[tuple[Facts, nn.Parameter, Tensor, Tensor]] = []
        self._taken: list[tuple[Facts, tuple[Tensor, ...], Any]] = []
        self.seen: dict[str, int] = {}
        """Parameters that the last step measured, and those of them whose optimizer keeps what can be read."""

    def remember(self, optimizer: Optimizer, measured: Measured, own_gradients: float | None) -> None:
        """Before the step of `optimizer`.

        Args:
            optimizer: Whose step it is.
            measured: Takes the norms of gradients that the loop set itself.
            own_gradients: The loss's factor, where there are such gradients (no backward pass was seen).
        """
        # A fused optimizer takes the scaler's factor off by itself.
        scale = getattr(optimizer, "grad_scale", None)
        with quiet():
            for group in optimizer.param_groups:
                facts = _facts(optimizer, group)
                for parameter in group["params"]:
                    if parameter not in self._owners or not parameter.requires_grad or not is_plain(parameter):
                        continue
                    self._weights.append((parameter, parameter.detach().clone()))
                    gradient = parameter.grad
                    if gradient is None:
                        continue
                    if own_gradients is not None:
                        # Set by the loop itself (`torch.func`, own rules): unscaled by now, which `values` repeats.
                        measured.norms[parameter] = norm(gradient) * own_gradients
                    if gradient.is_sparse or not parameter.is_floating_point() or not parameter.numel():
                        continue
                    # `state` is a defaultdict: only `get` leaves it as it is. The step writes over all of it.
                    momentum = self._moment(optimizer.state.get(parameter), FIRST, parameter)
                    picked = self._pick(gradient, parameter).float()
                    picked = picked.clone() if scale is None else picked / scale.to(picked.device)
                    self._before.append((facts, parameter, picked, momentum.clone()))

    def measure(self, optimizer: Optimizer, measured: Measured) -> None:
        """After it."""
        with quiet():
            before = dict(self._weights)
            for parameter, old in self._weights:
                measured.updates[parameter] = (norm(parameter.detach() - old), norm(old))
            for facts, parameter, gradient, momentum in self._before:
                state = optimizer.state.get(parameter)
                old = self._pick(before[parameter], parameter)
                # In the weight's own type: what rounding swallowed is exactly zero.
                change = (self._pick(parameter.detach(), parameter) - old).float()
                second = self._moment(state, SECOND, parameter)
                facts = facts._replace(
                    site=self._owners[parameter],
                    num_entries=parameter.numel(),
                    num_looked_at=change.numel(),
                    half=parameter.dtype in HALVES,
                    has_second=_slot(state, SECOND, parameter) is not None,
                    has_momentum=_slot(state, FIRST, parameter) is not None,
                )
                columns = (old.float(), change, gradient, momentum, second)
                self._taken.append((facts, columns, (state or {}).get("step", math.nan)))
        self.forget()

    def forget(self) -> None:
        """Let the copies go."""
        self._weights.clear()
        self._before.clear()

    def values(self) -> dict[str, dict[str, float]]:
        """`{indicator: {site: value}}` of the step that ended."""
        order = {site: place for place, site in enumerate(dict.fromkeys(self._owners.values()))}
        taken, self._taken = sorted(self._taken, key=lambda one: order[one[0].site]), []
        if not taken:
            return {}
        steps = to_host([step for *_, step in taken])
        facts = [one._replace(steps=step) for (one, *_), step in zip(taken, steps, strict=True)]
        device = taken[0][1][0].device
        rows = zip(*(columns for _, columns, _ in taken), strict=True)
        numbers = torch.stack([torch.cat([column.to(device) for column in row]) for row in rows]).cpu().numpy()
        self.seen = {
            "parameters": len(facts),
            "second moment": sum(one.has_second for one in facts),
            "momentum": sum(one.has_momentum for one in facts),
        }
        return by_site(facts, numbers.astype(np.float64))

    def _pick(self, tensor: Tensor, parameter: nn.Parameter) -> Tensor:
        return tensor.reshape(-1)[:: self._strides[parameter]]

    def _moment(self, state: Mapping | None, slots: tuple[str, ...], parameter: nn.Parameter) -> Tensor:
        """Its entries, in float32; NaN where there is none to read."""
        found = _slot(state, slots, parameter)
        if found is None:
            return torch.full_like(self._pick(parameter.detach(), parameter), math.nan, dtype=torch.float32)
        return self._pick(found, parameter).float().to(parameter.device)


def _stride(parameter: nn.Parameter) -> int:
    """Distance between the entries that are looked at; not in step with the rows, or all would lie in few columns."""
    stride = math.ceil(parameter.numel() / COORDINATES) or 1
    while parameter.dim() > 1 and stride > 1 and math.gcd(stride, parameter.shape[-1]) > 1:
        stride += 1
    return stride


def _slot(state: Mapping | None, slots: tuple[str, ...], parameter: nn.Parameter) -> Tensor | None:
    state = state or {}
    for name in slots:
        found = None if "acc_delta" in state else state.get(name)  # Adadelta's square_avg is no second moment of Adam's
        if isinstance(found, Tensor) and found.shape == parameter.shape and is_plain(found):
            return found
    return None


def _facts(optimizer: Optimizer, group: Mapping[str, Any]) -> Facts:
    return Facts(
        lr=_number(group.get("lr")),
        weight_decay=_number(group.get("weight_decay", 0.0)),
        decoupled=bool(group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))),
        eps=_number(group.get("eps")),
        beta=float(group["betas"][1]) if "betas" in group else 0.0,
    )


def _number(value: Any) -> float:
    """A setting of a group as a number; NaN for what is none (Adafactor has two epsilons)."""
    return float(value) if isinstance(value, (int, float, Tensor)) else math.nan
