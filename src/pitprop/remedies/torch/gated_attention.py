"""Gates on the output of attention: `attended * sigmoid(something of x)`, before the output projection.

Paper: Qiu et al., Gated Attention for Large Language Models, arXiv 2505.06708 (2025); variants G1 elementwise and
headwise.
Source read: qiuzh20/gated_attention `modeling_qwen3.py` (Apache-2.0); written anew from the formula, no code copied.
Differences: the paper folds the gate's matrix into the query projection; here it is a matrix of its own, the same
function. `PooledGate` is not the paper's: it is the gate of seed 4 (one number per head and sample, from the mean over
tokens). `identity=True` is ours: zero matrix and `2 * sigmoid`, so that a gate can be added to a trained model without
a jolt.
Cost: elementwise width**2 parameters per layer, headwise width * num_heads; one matrix product per layer.
Insertion: keeps the function with `identity=True` (2 * sigmoid(0) is 1, exactly); without it, and for `PooledGate`, the
output is about halved. It sits inside the attention, so `Replace` needs a factory.
Does not help: no entropy enters a gate, so it doesn't steer attention towards or away from uniform; and a signal that
is cut off behind the attention (a saturated bottleneck, say) stays cut off. Not gated, the output of a fresh gate is
about half as large.
"""

import torch
from torch import Tensor, nn


class ElementwiseGate(nn.Module):
    """A gate for every token and channel: `attended * sigmoid(x W)`.

    Args:
        width: Channels of the token stream.
        num_heads: Not needed by this gate; taken so that all gates are made alike.
        identity: Start as the exact identity instead of near one half.

    Shapes: `attended` and `x` are `[*batch, token, width]`, heads already joined; `x` is what the queries were made
    from.
    """

    def __init__(self, width: int, num_heads: int, *, identity: bool = False):
        super().__init__()
        self.scale = 2.0 if identity else 1.0
        self.projection = nn.Linear(width, width, bias=False)
        if identity:
            nn.init.zeros_(self.projection.weight)

    def forward(self, attended: Tensor, x: Tensor) -> Tensor:
        return attended * (self.scale * torch.sigmoid(self.projection(x)))


class HeadwiseGate(nn.Module):
    """A gate for every token and head. Arguments and shapes as `ElementwiseGate`."""

    def __init__(self, width: int, num_heads: int, *, identity: bool = False):
        super().__init__()
        self.scale = 2.0 if identity else 1.0
        self.projection = nn.Linear(width, num_heads, bias=False)
        if identity:
            nn.init.zeros_(self.projection.weight)

    def forward(self, attended: Tensor, x: Tensor) -> Tensor:
        gate = self.scale * torch.sigmoid(self.projection(x))
        return (attended.unflatten(-1, (gate.shape[-1], -1)) * gate[..., None]).flatten(-2)


class PooledGate(nn.Module):
    """The gate of seed 4: one number per head and sample, from the mean over the tokens.

    Args:
        width: Channels of the token stream.
        num_heads: Attention heads; must divide `width`.
        dropout: Between the two layers, as in the seed.

    Shapes as `ElementwiseGate`.
    """

    def __init__(self, width: int, num_heads: int, *, dropout: float = 0.1):
        super().__init__()
        self.gate_proj = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width // 2, num_heads),
            nn.Sigmoid(),
        )

    def forward(self, attended: Tensor, x: Tensor) -> Tensor:
        gate = self.gate_proj(x.mean(-2, keepdim=True))
        return (attended.unflatten(-1, (gate.shape[-1], -1)) * gate[..., None]).flatten(-2)
