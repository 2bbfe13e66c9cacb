"""adaLN-Zero: a block that is modulated by a condition and starts as the identity; and two other ways to start.

Paper: Peebles and Xie, Scalable Diffusion Models with Transformers (DiT), arXiv 2212.09748 (2023).
Source: written from the formula `x + g * F(LN(x) * (1 + s) + b)` with `(b, s, g) = silu(c) W`; no code copied.
Differences: one branch with its own three-part projection; DiT joins those of attention and MLP into one of six parts.
`init="normal"` (standard deviation .02) and `"scaled"` (variance scaling .02 over the fan-in, truncated) are seed 3's
alternatives.
Cost: 3 * width * condition_width parameters and a LayerNorm without parameters per branch.
Facts: with zeros the projection wakes at step 1 and the condition's encoder at step 2 (behind a zero final layer), 0
and 1 otherwise; after that it learns like any other.
Insertion: keeps the stream exactly with `init="zero"`; changes it otherwise.
Does not help: a condition that is ignored because the loss hardly depends on it; and together with another zero factor
inside of the branch (a zero output projection, a ReZero) nothing in it ever moves.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

TRUNCATED = 0.87962566103423978
"""Standard deviation of a unit Gaussian that is cut at two."""


class AdaLNZero(nn.Module):
    """Adds a modulated, gated branch to a stream.

    Args:
        width: Channels of the stream.
        condition_width: Channels of the condition.
        init: How the projection of the condition starts; its bias is zero.

    Shapes: `x` is `[batch, token, width]`, `condition` `[batch, condition_width]`; `branch` keeps the shape of `x`.
    """

    def __init__(
        self,
        width: int,
        condition_width: int,
        *,
        init: Literal["zero", "normal", "scaled"] = "zero",
        eps: float = 1e-6,
    ):
        super().__init__()
        self.eps = eps
        self.projection = nn.Linear(condition_width, 3 * width)
        nn.init.zeros_(self.projection.bias)
        if init == "zero":
            nn.init.zeros_(self.projection.weight)
        elif init == "normal":
            nn.init.normal_(self.projection.weight, std=0.02)
        else:
            std = (0.02 / condition_width) ** 0.5 / TRUNCATED
            nn.init.trunc_normal_(self.projection.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, x: Tensor, condition: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        shift, scale, gate = self.projection(F.silu(condition))[:, None].chunk(3, dim=-1)
        normalised = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return x + gate * branch(normalised * (1 + scale) + shift)
