"""Stage: let a branch in later, at once or over a ramp."""

from dataclasses import dataclass
from typing import Any

import torch

from pitprop.trials.interventions._targets import Applied, change_output, optimizers_of


@dataclass(frozen=True)
class Stage:
    """The output of every module at `path` times a ramp: 0 until step `start`, 1 from `start + ramp` on.

    It is linear between the two; `ramp=0` switches at once. Steps are optimizer steps since the fork (of the first
    optimizer, where there are several).
    """

    path: str
    start: int
    ramp: int = 0

    def describe(self) -> str:
        how = "at once" if self.ramp == 0 else f"linearly over {self.ramp} steps"
        return f"output of {self.path} held at 0 until step {self.start} after the fork, then let in {how}"

    def blames(self) -> str:
        return f"`{self.path}` being active from the start"

    def factor(self, step: int) -> float:
        """Value of the ramp at `step` after the fork, between 0 and 1."""
        if self.ramp == 0:
            return float(step >= self.start)
        return min(1.0, max(0.0, (step - self.start) / self.ramp))

    def apply(self, training: Any) -> Applied:
        steps = [0]

        def count(*_):
            steps[0] += 1

        def change(_path: str, output: torch.Tensor) -> torch.Tensor:
            return output * self.factor(steps[0])

        applied = change_output(training, self.path, change)
        next(iter(optimizers_of(training).values())).register_step_post_hook(count)
        return applied
