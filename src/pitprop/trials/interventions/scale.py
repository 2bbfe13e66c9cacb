"""Scale: make what goes into or comes out of a module larger or smaller."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from pitprop._errors import PitpropError
from pitprop.trials.interventions._targets import Applied, change_input, change_output


@dataclass(frozen=True)
class Scale:
    """The output (or first input) of every module at `path` times `factor`.

    `factor="unit"` divides by the root mean square of that tensor, measured once per module on the first batch after
    insertion and constant from then on (no gradient flows into it).
    """

    path: str
    factor: float | Literal["unit"]
    side: Literal["output", "input"] = "output"

    def describe(self) -> str:
        if self.factor == "unit":
            return f"{self.side} of {self.path} divided by its RMS on the first batch"
        return f"{self.side} of {self.path} multiplied by {self.factor:g}"

    def blames(self) -> str:
        return f"the size of the {self.side} of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        factors: dict[str, float] = {}

        def change(path: str, tensor: torch.Tensor) -> torch.Tensor:
            if path not in factors:
                factors[path] = 1 / self._rms(path, tensor) if self.factor == "unit" else float(self.factor)
            return tensor * factors[path]

        hook = change_output if self.side == "output" else change_input
        return hook(training, self.path, change)

    def _rms(self, path: str, tensor: torch.Tensor) -> float:
        rms = tensor.detach().float().square().mean().sqrt().item()
        if not 0 < rms < float("inf"):
            raise PitpropError(
                f"The {self.side} of `{path}` has RMS {rms:g} on the first batch.",
                means="It cannot be divided out.",
                do="give a number as the factor.",
            )
        return rms
