"""Scale: make what goes into or comes out of a module, or its parameters, larger or smaller."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pitprop._errors import PitpropError, nearest
from pitprop.trials.interventions._pytree import leaves_at, where
from pitprop.trials.interventions._targets import Applied, change_input, change_output, is_jax, parameters_at


@dataclass(frozen=True)
class Scale:
    """The output (or first input) of every module at `path` times `factor`; or its parameters, once.

    `factor="unit"` divides by the root mean square of that tensor, measured once per module on the first batch after
    insertion and constant from then on (no gradient flows into it). With `side="parameters"` each parameter at or under
    `path` is multiplied by a number at the fork and learns on from there; the optimizer's memory stays.
    """

    path: str
    factor: float | Literal["unit"]
    side: Literal["output", "input", "parameters"] = "output"

    def __post_init__(self):
        sides = ("output", "input", "parameters")
        if self.side not in sides:
            raise PitpropError(f"Nothing can be scaled at the `{self.side}`: {nearest(self.side, sides)}")
        if self.factor == "unit" and self.side == "parameters":
            raise PitpropError("Parameters cannot be scaled to unit size.", do="give a number as the factor.")

    def describe(self) -> str:
        if self.side == "parameters":
            return f"parameters of {self.path} multiplied by {self.factor:g} at the fork"
        if self.factor == "unit":
            return f"{self.side} of {self.path} divided by its RMS on the first batch"
        return f"{self.side} of {self.path} multiplied by {self.factor:g}"

    def blames(self) -> str:
        return f"the size of the {self.side} of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        if self.side == "parameters" and is_jax(training):
            names, mask = leaves_at(training, self.path)
            training.tree = training.tree | {
                "params": where(mask, lambda leaf: leaf * float(self.factor), training.tree["params"])
            }
            return Applied(names, Counter(names))
        if self.side == "parameters":
            return self._apply_to_parameters(training)
        factors: dict[str, float] = {}

        def change(path: str, tensor: torch.Tensor) -> torch.Tensor:
            if path not in factors:
                factors[path] = 1 / self._rms(path, tensor) if self.factor == "unit" else float(self.factor)
            return tensor * factors[path]

        hook = change_output if self.side == "output" else change_input
        return hook(training, self.path, change)

    @torch.no_grad()
    def _apply_to_parameters(self, training: Any) -> Applied:
        found = parameters_at(training, self.path)
        applied = Applied(tuple(found))
        for name, parameter in found.items():
            parameter.mul_(float(self.factor))
            applied.calls[name] += 1
        return applied

    def _rms(self, path: str, tensor: torch.Tensor) -> float:
        rms = tensor.detach().float().square().mean().sqrt().item()
        if not 0 < rms < float("inf"):
            raise PitpropError(
                f"The {self.side} of `{path}` has RMS {rms:g} on the first batch.",
                means="It cannot be divided out.",
                do="give a number as the factor.",
            )
        return rms
