"""Staged activation: a new module comes in at a chosen step, at once or by a ramp, and the step lies in the state dict.

Source: seed 2's stage flags (`SCI-ARC`, MIT) rebuilt without their defects; no code copied.
Differences: the original kept Python attributes, which neither a checkpoint nor a copy for averaging carries on (its
evaluated copy never had the modules on). Here the step is a buffer, and what is on follows from it.
Cost: one multiplication and addition; nothing of the new module is computed before `start`.
Facts: before `start` the module's parameters get no gradient at all (None, not zero: weight decay leaves them alone).
A hard switch (`ramp=0`) puts in an untrained module at full strength. A ramp spreads the same change over its steps.
Insertion: keeps the function exactly while `step <= start`, and with `ramp=0` while `step < start`.
Does not help: where the module starts as nothing by itself (`zero_init_projection`), which needs no stage.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Staged(nn.Module):
    """Chooses between an old path and a new one by the step.

    Args:
        start: Step at which the new path comes in.
        ramp: Steps over which it does; 0 is a hard switch.

    `strength` is clip((step - start) / ramp, 0, 1), or step >= start where `ramp` is 0. Call `advance()` once per
    optimizer step. Under gradient checkpointing read `strength` outside of the checkpointed function and pass it in:
    a value that changes between forward and backward gives wrong gradients without any error.
    """

    step: Tensor

    def __init__(self, *, start: int, ramp: int = 0):
        super().__init__()
        self.start, self.ramp = start, ramp
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def strength(self) -> float:
        """Share of the new path, 0 to 1."""
        since = int(self.step) - self.start
        return float(since >= 0) if self.ramp == 0 else min(max(since / self.ramp, 0.0), 1.0)

    def advance(self) -> None:
        """One optimizer step is done."""
        self.step += 1

    def forward(
        self, x: Tensor, old: Callable[[Tensor], Tensor], new: Callable[[Tensor], Tensor], strength: float | None = None
    ) -> Tensor:
        """`old(x)` at strength 0, `new(x)` at 1, and the line between; neither is computed where it has no share.

        Args:
            x: Handed to both.
            old: What was there before; `lambda x: x` for a residual branch that is new.
            new: What comes in, of the same shape.
            strength: Read before checkpointing; by default the current one.
        """
        strength = self.strength if strength is None else strength
        if strength == 0:
            return old(x)
        return new(x) if strength == 1 else torch.lerp(old(x), new(x), strength)
