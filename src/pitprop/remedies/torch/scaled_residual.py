"""Scaled residual: a branch is added at a fixed or a learned fraction of its own size, `x + a * branch`.

Paper: SkipInit, De and Smith, arXiv 2002.10444 (2020), for the learned scalar; ReZero, arXiv 2003.04887, is `init=0`.
Source: written from the formula; the fixed 0.1 is seed 1's partial fix (`wei-paul/AA-CLIP`, Apache-2.0).
Differences: none.
Cost: one multiplication per branch; one parameter where learned.
Facts: `a` is relative to the branch, not to the stream. With a branch r times as long as its stream and orthogonal to
it, the part of the gradient that reaches the stream through a normalising head is 1 / sqrt(1 + (a r)**2): at a=0.1 that
is .995 for r=1 and .196 for r=50. The gradient of a learned `a` is <gradient, branch>.
Insertion: changes the function of a branch that was added whole, unless `a` is 1; a new branch leaves it as it is only
at 0.
Does not help: against a branch whose norm has no bound, because the fraction is of that norm (norm_match bounds it);
and with `init=0` learned over a zero-initialised projection the branch is dead for good.
"""

import torch
from torch import Tensor, nn


class ScaledResidual(nn.Module):
    """Adds a branch to a stream at the factor `a`.

    Args:
        init: The factor, or where it starts; 0.1 in seed 1.
        learnable: Whether the factor is a parameter (one scalar) rather than a buffer.

    Shape: `[*batch, width]` for stream and branch in, and for the sum out.
    """

    a: Tensor

    def __init__(self, init: float = 0.1, *, learnable: bool = False):
        super().__init__()
        factor = torch.tensor(float(init))
        if learnable:
            self.a = nn.Parameter(factor)
        else:
            self.register_buffer("a", factor)

    def forward(self, stream: Tensor, branch: Tensor) -> Tensor:
        return stream + self.a * branch
