"""Ablate: take away what a module says, and keep everything else."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from pitprop.trials.interventions._targets import Applied, change_output


@dataclass(frozen=True)
class Ablate:
    """The output of every module at `path` multiplied by 0 (a residual branch becomes the identity), or its batch mean.

    With `"batch_mean"` every element of the batch (dimension 0) gets the mean over the batch: the module still speaks,
    but no longer about its input.
    """

    path: str
    to: Literal["zero", "batch_mean"] = "zero"

    def describe(self) -> str:
        return f"output of {self.path} " + (
            "multiplied by 0" if self.to == "zero" else "replaced by its mean over the batch"
        )

    def blames(self) -> str:
        return f"the output of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        def change(_path: str, output: torch.Tensor) -> torch.Tensor:
            # Multiplying keeps the graph, so that optimizers see zero gradients instead of missing ones.
            return output * 0 if self.to == "zero" else output.mean(0, keepdim=True).expand_as(output)

        return change_output(training, self.path, change)
