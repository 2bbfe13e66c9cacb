"""Ablate: take away what a module, or some of its heads, says, and keep everything else."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from pitprop._errors import PitpropError, nearest
from pitprop.trials.interventions._heads import ablate_heads
from pitprop.trials.interventions._targets import Applied, change_output


@dataclass(frozen=True)
class Ablate:
    """The output of every module at `path` multiplied by 0 (a residual branch becomes the identity), or its batch mean.

    With `"batch_mean"` every element of the batch (dimension 0) gets the mean over that batch, for each position and
    channel by itself, and gradient flows through the mean: the module still speaks, but no longer about its input. The
    mean is taken anew of each batch that passes, also in `evaluate`; nothing runs along.

    With `head` (a number from 0, or several) only those heads are taken out, of every attention inside the module: what
    they say is multiplied by 0 before the output projection. That works for `F.scaled_dot_product_attention`,
    `nn.MultiheadAttention` and attention by a softmax over `[batch, head, query, key]`; of several queries to one key
    (GQA) it is the query's heads that count.
    """

    path: str
    to: Literal["zero", "batch_mean"] = "zero"
    head: int | tuple[int, ...] | None = None

    def __post_init__(self):
        if isinstance(self.head, list):  # as JSON has it
            object.__setattr__(self, "head", tuple(self.head))
        if self.to not in ("zero", "batch_mean"):
            raise PitpropError(f"Nothing is ablated to `{self.to}`: {nearest(self.to, ('zero', 'batch_mean'))}")
        if self.head is not None and (self.to != "zero" or self.head == ()):
            raise PitpropError(
                f"Ablate has head {self.head} and to {self.to!r}.",
                do="give at least one head, and ablate heads to zero; a mean is of a whole module's output.",
            )

    @property
    def heads(self) -> tuple[int, ...]:
        """The heads to take out; empty for the whole module."""
        return () if self.head is None else (self.head,) if isinstance(self.head, int) else self.head

    def describe(self) -> str:
        if self.heads:
            return f"{self._told()} multiplied by 0"
        how = "multiplied by 0" if self.to == "zero" else "replaced by its mean over the batch"
        return f"output of {self.path} {how}"

    def blames(self) -> str:
        return f"the {self._told()}" if self.heads else f"the output of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        if self.heads:
            return ablate_heads(training, self.path, self.heads)

        def change(_path: str, output: torch.Tensor) -> torch.Tensor:
            # Multiplying keeps the graph, so that optimizers see zero gradients instead of missing ones.
            return output * 0 if self.to == "zero" else output.mean(0, keepdim=True).expand_as(output)

        return change_output(training, self.path, change)

    def _told(self) -> str:
        return f"{'head' if len(self.heads) == 1 else 'heads'} {', '.join(map(str, self.heads))} of {self.path}"
