"""The recursive solver: one ConvGRU step after another, each with its own look at the context."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pitprop.cases.grid_solver.hyperlora import Deltas, apply_delta
from pitprop.cases.grid_solver.injectors import SolverCrossAttention
from pitprop.cases.grid_solver.tasks import NUM_COLOURS

KEEP_FIRST = 0.3
"""Share of the first hidden state in every later one."""


class Context(NamedTuple):
    """What every solver step may read of the shown pairs."""

    tokens: Float[Tensor, "task key width"]
    hidden_keys: Bool[Tensor, "task key"] | None
    deltas: Deltas | None
    """HyperLoRA's changes, or None while it is off."""
    attention: float
    """Strength of the cross-attention, 0 to 1. A value, not a flag read inside: under checkpointing it must not change
    between forward and backward.
    """


def soft_clamp(x: Tensor, linear: float, largest: float) -> Tensor:
    """`x` up to `linear` in size, then ever less, and never over `largest`."""
    room = largest - linear
    return x.clamp(-linear, linear) + x.sign() * room * torch.tanh((x.abs() - linear).clamp(min=0) / room)


class ConvGRU(nn.Module):
    """Convolutional GRU whose candidate is a SwiGLU; HyperLoRA's changes act on the gates before they are squashed."""

    def __init__(self, width: int, input_width: int):
        super().__init__()
        both = width + input_width
        self.reset, self.update = (nn.Conv2d(both, width, 3, padding=1) for _ in range(2))
        self.candidate = nn.Conv2d(both, 2 * width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)

    def of_input(self, x: Float[Tensor, "task in row column"]) -> Float[Tensor, "task 4*width row column"]:
        """The input's part of all gates, which is the same at every step: a convolution is linear in its channels."""
        return torch.cat([_part(gate, x, 0, bias=True) for gate in (self.reset, self.update, self.candidate)], 1)

    def forward(
        self,
        of_input: Float[Tensor, "task 4*width row column"],
        h: Float[Tensor, "task width row column"],
        deltas: Deltas | None,
    ) -> Float[Tensor, "task width row column"]:
        found, width = deltas or {}, h.shape[1]
        weights = torch.cat([gate.weight[:, -width:] for gate in (self.reset, self.update)])
        reset, update = (nn.functional.conv2d(h, weights, padding=1) + of_input[:, : 2 * width]).chunk(2, 1)
        reset = torch.sigmoid(apply_delta(reset, found.get("reset_gate")))
        update = torch.sigmoid(apply_delta(update, found.get("update_gate")))
        both = _part(self.candidate, reset * h, -width, bias=False) + of_input[:, 2 * width :]
        gate, value = both.chunk(2, 1)
        candidate = torch.tanh(apply_delta(nn.functional.silu(gate) * value, found.get("candidate")))
        return self.norm((1 - update) * h + update * candidate)


class Solver(nn.Module):
    """Hidden state per cell, refined step by step, and read out into colours.

    Args:
        width: Channels; a multiple of 8.
        num_steps: 6 in the original.
        attention: Have a cross-attention behind every step.
        checkpointing: Recompute every step in the backward pass instead of keeping what it computed.
        reentrant: With `checkpointing`, torch's old implementation, which drops gradients where no direct argument
            requires one (the original uses the new one).
        background_bias: Bias of colour 0 at the output: 0 in OLD, -0.5 in NEW.
    """

    def __init__(
        self,
        width: int,
        *,
        num_steps: int = 6,
        attention: bool = False,
        checkpointing: bool = False,
        reentrant: bool = False,
        background_bias: float = 0.0,
    ):
        super().__init__()
        self.num_steps, self.checkpointing, self.reentrant = num_steps, checkpointing, reentrant
        self.rescale = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.GroupNorm(8, width))
        self.cell = ConvGRU(width, 2 * width)
        self.attention = SolverCrossAttention(width) if attention else None
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.GroupNorm(8, width), nn.Conv2d(width, NUM_COLOURS, 1)
        )
        with torch.no_grad():
            self.head[-1].bias.zero_()  # type: ignore[union-attr, operator]
            self.head[-1].bias[0] = background_bias  # type: ignore[index]

    def forward(
        self,
        aggregate: Float[Tensor, "task width row column"],
        embedded: Float[Tensor, "task width row column"],
        context: Context,
    ) -> Float[Tensor, "task colour row column"]:
        """Logits per cell after the last step."""
        x = self.cell.of_input(torch.cat([self.rescale(aggregate), embedded], 1))
        h = torch.zeros_like(aggregate)
        first = None
        for _ in range(self.num_steps):
            h = (
                checkpoint(self._step, x, h, context, use_reentrant=self.reentrant)
                if self.checkpointing
                else (self._step(x, h, context))
            )
            first, h = (h, h) if first is None else (first, (1 - KEEP_FIRST) * h + KEEP_FIRST * first)
        h = soft_clamp(h, 8, 10)
        return self.head(apply_delta(h, (context.deltas or {}).get("head")))

    def _step(self, x: Tensor, h: Tensor, context: Context) -> Tensor:
        h = self.cell(x, h, context.deltas)
        if self.attention is None or context.attention == 0:
            return h
        attended = self.attention(h, context.tokens, context.hidden_keys)
        return attended if context.attention == 1 else torch.lerp(h, attended, context.attention)


def _part(conv: nn.Conv2d, x: Tensor, first: int, *, bias: bool) -> Tensor:
    """What some of a convolution's input channels, from `first` on, give."""
    weight = conv.weight[:, first:][:, : x.shape[1]]
    return nn.functional.conv2d(x, weight, conv.bias if bias else None, padding=1)
