"""The model's inputs, as tensors with names, and the same call with some of them shuffled over the batch."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


def rolled(tensor: Tensor) -> Tensor:
    """Every sample gets its neighbour's input."""
    return tensor.roll(1, 0)


def first_for_all(tensor: Tensor) -> Tensor:
    """Every sample gets the first one's input."""
    return tensor[:1].expand_as(tensor).clone()


def inputs_of(model: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors with a batch axis among the arguments of a call, by name."""
    found: dict[str, Tensor] = {}
    _map(model, args, kwargs, lambda name, tensor: found.setdefault(name, tensor))
    size = batch_size(found.values())
    return {name: t for name, t in found.items() if t.dim() and t.shape[0] == size} if size > 1 else {}


def batch_size(tensors) -> int:
    """The length that most first axes have."""
    return max(Counter(t.shape[0] for t in tensors if t.shape).items(), key=lambda kv: kv[1], default=(0, 0))[0]


def changed(
    model: nn.Module, args: tuple, kwargs: Mapping[str, Any], names, change: Callable[[Tensor], Tensor]
) -> tuple[tuple, dict[str, Any]]:
    """The arguments, with `change` made to the tensors called `names`."""
    return _map(model, args, kwargs, lambda name, tensor: change(tensor) if name in names else tensor)


def _map(model: nn.Module, args: tuple, kwargs: Mapping[str, Any], change: Callable) -> tuple[tuple, dict[str, Any]]:
    def walk(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            return change(name, value)
        if isinstance(value, dict):
            return {key: walk(item, f"{name}.{key}") for key, item in value.items()}
        if type(value) in (tuple, list):
            return type(value)(walk(item, f"{name}.{i}") for i, item in enumerate(value))
        return value

    names = [*inspect.signature(model.forward).parameters] + [f"input {i}" for i in range(len(args))]
    values = tuple(walk(value, name) for value, name in zip(args, names, strict=False))
    return values, {name: walk(value, name) for name, value in kwargs.items()}
