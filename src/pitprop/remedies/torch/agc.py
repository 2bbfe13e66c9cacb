"""Adaptive gradient clipping: each unit's gradient is held to a share of the unit's own weights.

Paper: Brock et al., High-Performance Large-Scale Image Recognition Without Normalization, arXiv 2102.06171 (2021).
Source: written from the formula g * min(1, c * max(|w|, 1e-3) / |g|); `optax.adaptive_grad_clip` gives the same
numbers.
Differences: a unit is a row of a matrix (one output), a filter of a convolution, or a whole vector, as in optax.
Cost: one pass over weights and gradients.
Insertion: acts on gradients only, so what the model computes is kept.
Does not help: rows that start at zero are held to c * 1e-3 each step, which starves them under SGD (leave them out);
and Adam divides a constant factor out again.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def agc(parameters: Iterable[nn.Parameter], clipping: float = 0.01, *, eps: float = 1e-3) -> None:
    """Clips the gradients of `parameters` in place.

    Args:
        parameters: `[out, in, ...]` or vectors; those without a gradient are left out.
        clipping: Largest norm of a unit's gradient relative to that of its weights.
        eps: Norm that a unit's weights count as having at least.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            largest = clipping * _unitwise(parameter).clamp(min=eps)
            norm = _unitwise(parameter.grad)
            parameter.grad.mul_(torch.where(norm > largest, largest / norm.clamp(min=1e-6), 1.0))


def _unitwise(x: Tensor) -> Tensor:
    if x.squeeze().dim() <= 1:
        return x.norm()
    return x.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.dim() - 1))
