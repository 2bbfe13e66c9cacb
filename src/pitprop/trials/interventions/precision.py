"""Precision: train in another floating-point format."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._pytree import tree_map

from pitprop._errors import PitpropError, nearest
from pitprop.trials.interventions._targets import Applied, model_of, optimizers_of


@dataclass(frozen=True)
class Precision:
    """Steps in `dtype`: by autocast for the two half formats, by casting the model for float64.

    `"bfloat16"` and `"float16"` put `torch.autocast` around the whole of `step`; weights, optimizer state and
    `evaluate` keep their format, the loss is not scaled, and an autocast that the step itself enters wins inside it.
    `"float64"` casts every module among the training's attributes, the optimizer state, the batches and every tensor
    that enters one of those modules, also in `evaluate`; new tensors are float64 by default inside `step`. Where a
    recipe feeds float32 data of its own past the modules, torch refuses to mix the two, and the arm is marked failed.
    """

    dtype: Literal["bfloat16", "float16", "float64"]

    def __post_init__(self):
        known = ("bfloat16", "float16", "float64")
        if self.dtype not in known:
            raise PitpropError(f"There is no precision `{self.dtype}`: {nearest(self.dtype, known)}")

    def describe(self) -> str:
        if self.dtype == "float64":
            return "model, optimizer state and batches cast to float64"
        return f"autocast to {self.dtype} around each training step"

    def blames(self) -> str:
        return "the floating-point format of the steps"

    def apply(self, training: Any) -> Applied:
        applied = Applied(("step",))
        model, plain = model_of(training), training.step

        def half(batch: Any) -> Any:
            applied.calls["step"] += 1
            device = next(model.parameters()).device.type
            with torch.autocast(device, dtype=getattr(torch, self.dtype)):
                return plain(batch)

        def double(batch: Any) -> Any:
            applied.calls["step"] += 1
            before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float64)
            try:
                return plain(tree_map(_double, batch))
            finally:
                torch.set_default_dtype(before)

        if self.dtype == "float64":
            _cast(training)
        training.step = double if self.dtype == "float64" else half
        return applied


def _cast(training: Any) -> None:
    def enter(_module, args, kwargs):
        return tree_map(_double, args), tree_map(_double, kwargs)

    for value in vars(training).values():
        for module in value.double().modules() if isinstance(value, nn.Module) else ():
            module.register_forward_pre_hook(enter, with_kwargs=True)
    for optimizer in optimizers_of(training).values():
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                # Step counts are scalars, and keep the format that the optimizer gave them.
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape and name != "step":
                    state[name] = _double(value)


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
