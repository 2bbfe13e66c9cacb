"""Clamped delta: the weight change that an adapter or a hypernetwork proposes is bounded in norm.

Source: seed 2's own later fix (`SCI-ARC`, MIT: the norm of HyperLoRA's dW clamped at 1.0), written anew from
`dW * min(1, bound / |dW|)`; no code copied.
Differences: the bound may be given relative to the norm of the weight that is adapted, which is free of scale.
Cost: one norm per matrix.
Facts: the direction stays; above the bound the gradient has no part along dW (the norm can't grow by it), and the rest
is scaled by bound / |dW|.
Insertion: keeps the function exactly where the norm is within the bound.
Does not help: against a delta of the right size and a wrong direction, or a learning rate that drives it to the bound.
"""

import torch
from torch import Tensor, nn


class ClampedDelta(nn.Module):
    """Bounds the Frobenius norm of weight changes.

    Args:
        bound: Largest norm, above 0; relative to `weight`'s where that is given to `forward`.

    Shapes: `delta` is `[*batch, out, in]`, and so is the result; every matrix has a norm of its own.
    """

    def __init__(self, bound: float = 1.0):
        super().__init__()
        if not bound > 0:
            raise ValueError(f"the bound must be above 0, not {bound}")
        self.bound = bound

    def forward(self, delta: Tensor, weight: Tensor | None = None) -> Tensor:
        """`delta` with its norm at most `bound`, times the norm of `weight` (`[out, in]`, no gradient) if given."""
        bound = self.bound if weight is None else self.bound * weight.detach().norm()
        norm = delta.norm(dim=(-2, -1), keepdim=True)
        # A zero delta has norm 0, which the clamp keeps out of the division; within the bound the factor is exactly 1.
        return delta * torch.where(norm > bound, bound / norm.clamp(min=bound), 1.0)
