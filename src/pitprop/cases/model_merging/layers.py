"""The transformer's parts: position table, gated attention, pre-norm layer."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pitprop.remedies.torch.gated_attention import ElementwiseGate, HeadwiseGate, PooledGate

Gate = Literal["none", "pooled", "elementwise", "headwise"]
AttentionKind = Literal["learned", "uniform"]


def sinusoid(num_tokens: int, d_model: int) -> Float[Tensor, "token d_model"]:
    """Position table of Vaswani et al. 2017."""
    rate = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000) / d_model))
    angle = torch.arange(num_tokens)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :d_model]


class Attention(nn.Module):
    """Multi-head self-attention with an optional gate on its output, before the output projection.

    `kind="uniform"` takes the queries out, so that every weight is 1/50: the control for "does this attention select
    anything".
    """

    def __init__(self, d_model: int, num_heads: int, gate: Gate, kind: AttentionKind):
        super().__init__()
        self.num_heads, self.kind = num_heads, kind
        self.query, self.key, self.value, self.output = (nn.Linear(d_model, d_model) for _ in range(4))
        gates = {"none": None, "pooled": PooledGate, "elementwise": ElementwiseGate, "headwise": HeadwiseGate}
        make = gates[gate]
        self.gate = make(d_model, num_heads) if make else None

    def heads(self, x: Tensor) -> Float[Tensor, "pair head token head_width"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def query_key(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, `[pair, head, token, head_width]` each; logits are their products over sqrt(head_width)."""
        q, k = self.heads(self.query(x)), self.heads(self.key(x))
        return (q * 0 if self.kind == "uniform" else q), k

    def forward(self, x: Float[Tensor, "pair token d_model"]) -> Float[Tensor, "pair token d_model"]:
        q, k = self.query_key(x)
        attended = F.scaled_dot_product_attention(q, k, self.heads(self.value(x))).transpose(1, 2).flatten(2)
        if self.gate is not None:
            attended = self.gate(attended, x)
        return self.output(attended)


class Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, d_model: int, num_heads: int, gate: Gate, kind: AttentionKind, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = Attention(d_model, num_heads, gate, kind)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_model), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_model, d_model)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.feed_forward(self.norm2(x)))
