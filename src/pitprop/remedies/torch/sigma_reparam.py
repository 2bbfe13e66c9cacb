"""sigmaReparam: a linear layer whose spectral norm is one learned number, `W' = gamma / sigma(W) * W`.

Paper: Zhai et al., Stabilizing Transformer Training by Preventing Attention Entropy Collapse, arXiv 2303.06296 (2023).
Source: written from the formula; apple/ml-sigma-reparam (only read) has it in torch and jax.
Differences: gamma starts at the spectral norm of the first W, as in the paper's torch code (its jax code has 1), so
that the layer starts as the plain one.
Cost: one power iteration (two matrix-vector products) per forward pass in training, one number and two vectors.
Facts: bounds the entropy of attention from below where it is in queries and keys, by their gammas.
Insertion: keeps the function up to the error of the first power iterations.
Does not help: against uniform attention, or a gamma that is itself driven up: it slows that down, no more.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SigmaReparamLinear(nn.Module):
    """A linear layer of a learned spectral norm.

    Args:
        num_in: Channels in.
        num_out: Channels out.
        num_first: Power iterations at the start.

    Shape: `[*batch, num_in]` to `[*batch, num_out]`. The directions move in training mode only.
    """

    u: Tensor

    def __init__(self, num_in: int, num_out: int, *, num_first: int = 20):
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_out, num_in), std=0.02))
        self.bias = nn.Parameter(torch.zeros(num_out))
        weight = self.weight.detach()
        u = torch.ones(num_out) / num_out**0.5
        v = torch.zeros(num_in)
        for _ in range(num_first):
            u, v = _iterate(weight, u)
        self.register_buffer("u", u)
        self.gamma = nn.Parameter(u @ weight @ v)

    def forward(self, x: Tensor) -> Tensor:
        u, v = _iterate(self.weight.detach(), self.u)
        if self.training:
            self.u.copy_(u)
        return F.linear(x, self.weight * (self.gamma / (u @ self.weight @ v)), self.bias)


def _iterate(weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    v = F.normalize(u @ weight, dim=0)
    return F.normalize(weight @ v, dim=0), v
