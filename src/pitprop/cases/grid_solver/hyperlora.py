"""HyperLoRA: the context predicts low-rank changes of the solver's gates and of its output."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pitprop.remedies.torch.clamped_delta import ClampedDelta

Place = Literal["reset_gate", "update_gate", "candidate", "head"]
PLACES: tuple[Place, ...] = get_args(Place)
Deltas = dict[Place, Float[Tensor, "task width width"]]


class HyperLoRA(nn.Module):
    """Predicts `scale * A @ B` for each place from the pooled context.

    Args:
        width: Channels of context and solver.
        rank: Of each change; 8 in the original.
        scale: Factor on the change; 1 in the original (LoRA's alpha / rank).
        init_std: Standard deviation of the last layers of A's and B's generators. The original takes 0.1 for both, so
            that the change is far from nothing at the start: |h dW| / |h| is about
            (0.36 init_std)² width^1.5 sqrt(rank), 16 at width 256. A LoRA starts with B = 0.
        zero_b: Start with B = 0, as LoRA does: the change is nothing until a step was made.
        largest_norm: Bound on the Frobenius norm of each change, the author's later fix; None for no bound.
    """

    def __init__(
        self,
        width: int,
        *,
        rank: int = 8,
        scale: float = 1.0,
        init_std: float = 0.1,
        zero_b: bool = False,
        largest_norm: float | None = None,
    ):
        super().__init__()
        self.width, self.rank, self.scale = width, rank, scale
        self.trunk = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.LayerNorm(width)
        )
        self.a, self.b = (nn.ModuleDict({place: _generator(width, rank, init_std) for place in PLACES}) for _ in "ab")
        if zero_b:
            for generator in self.b.values():
                nn.init.zeros_(generator[-1].weight)  # type: ignore[index]
        self.clamp = None if largest_norm is None else ClampedDelta(largest_norm)

    def forward(self, context: Float[Tensor, "task width"]) -> Deltas:
        trunk = self.trunk(context)
        deltas: Deltas = {}
        for place in PLACES:
            a = self.a[place](trunk).view(-1, self.width, self.rank)
            b = self.b[place](trunk).view(-1, self.rank, self.width)
            delta = self.scale * a @ b
            deltas[place] = delta if self.clamp is None else self.clamp(delta)
        return deltas


def apply_delta(
    x: Float[Tensor, "task width row column"], delta: Float[Tensor, "task width width"] | None
) -> Float[Tensor, "task width row column"]:
    """`x + x dW` over the channels of every cell; `x` where there is no change."""
    return x if delta is None else x + torch.einsum("bcij,bcd->bdij", x, delta)


def _generator(width: int, rank: int, init_std: float) -> nn.Sequential:
    last = nn.Linear(width, width * rank)
    nn.init.normal_(last.weight, std=init_std)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), last)


@torch.no_grad()
def gain(deltas: Deltas, iterations: int = 8) -> float:
    """Largest gain |x dW| / |x| of each change, by the power method; mean over the tasks, largest of the places.

    The change is added to the identity (`apply_delta`), so that this is also its size beside what it adapts.
    """
    largest = []
    for delta in deltas.values():
        x = torch.ones_like(delta[:, :1])
        for _ in range(iterations):
            x = torch.nn.functional.normalize(x @ delta @ delta.mT, dim=-1)
        largest.append(float((x @ delta).norm(dim=-1).mean()))
    return max(largest)


def ratio_at_start(width: int, init_std: float, rank: int = 8) -> float:
    """Closed form of |h dW| / |h| at initialisation: the generators' entries have deviation 0.36 init sqrt(width)."""
    return (0.36 * init_std) ** 2 * width**1.5 * rank**0.5


def init_for(ratio: float, width: int, rank: int = 8) -> float:
    """The `init_std` at which the ratio above is `ratio`."""
    return (ratio / (width**1.5 * rank**0.5)) ** 0.5 / 0.36
