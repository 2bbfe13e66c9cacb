"""Whether a forward pass came since the last step ended, told on plain steps too, without a hook on them.

Autograd numbers the operations that it records, and an optimizer records none. So what was recorded since the step
ended is a forward pass, or arithmetic with the outputs of the last one, which is much shorter.
"""

import torch


class Begun:
    """Counts the operations that autograd records in this thread, between steps and in forward passes."""

    def __init__(self) -> None:
        self._mark = self._entered = _recorded()
        self._smallest = 0
        self._blind = False

    def end_step(self) -> None:
        """A step ended."""
        now = _recorded()
        self._blind, self._mark = now == self._mark, now

    def enter_forward(self) -> None:
        """An outermost forward pass begins."""
        self._entered = _recorded()

    def leave_forward(self) -> None:
        """It ended."""
        made = _recorded() - self._entered
        if made > 0:
            self._smallest = min(made, self._smallest or made)

    @property
    def told(self) -> bool | None:
        """Whether a forward pass came since; None where the last step recorded nothing, so that this can't be told."""
        if self._blind:
            return None
        # Forward passes may differ; half of the smallest one is one still.
        return 2 * (_recorded() - self._mark) >= max(1, self._smallest)


def _recorded() -> int:
    return torch._C._autograd._get_sequence_nr()  # pyright: ignore[reportAttributeAccessIssue]
