"""LayerScale: a learned gain per channel on a residual branch, small at the start.

Paper: Touvron et al., Going deeper with Image Transformers (CaiT), arXiv 2103.17239 (2021).
Source: written from the formula `x + g * F(x)`; no code copied.
Differences: none.
Cost: width parameters and one multiplication per branch.
Insertion: keeps the function with `init=1`, exactly; with the paper's small gain the branch all but vanishes. `Replace`
inserts it with 1.
Does not help: behind a zero-initialised projection (with `init=0` on top of it the branch is dead for good), or against
a branch whose norm grows without bound, because the gain multiplies that norm instead of bounding it (see norm_match).
"""

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Multiplies the last axis by a learned gain.

    Args:
        width: Channels of the branch.
        init: Gain at the start; CaiT uses 0.1 for shallow, 1e-5 or 1e-6 for deep models.

    Shape: `[*batch, width]` in and out.
    """

    def __init__(self, width: int, *, init: float = 1e-5):
        super().__init__()
        self.gain = nn.Parameter(torch.full((width,), init))

    def forward(self, branch: Tensor) -> Tensor:
        return branch * self.gain
