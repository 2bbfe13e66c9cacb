"""The cross-attention of the feedback loop, and the ways in which its output is put into the residual stream."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pitprop.cases.clip_anomaly.options import VariantName
from pitprop.remedies.torch.layer_scale import LayerScale
from pitprop.remedies.torch.norm_match import norm_match
from pitprop.remedies.torch.zero_init_projection import zero_init_projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """How the branch is put into the stream."""

    weight: float = 1.0
    """`image_cross_attn_weight`, `text_cross_attn_weight`: factor of the branch, or its start where it is learned."""
    learned: Literal["fixed", "scalar", "channels"] = "fixed"
    """Whether the factor is a constant, one learned number, or one per channel (LayerScale)."""
    normalise: bool = False
    """Give every token of the context the norm 1 first."""
    norm_match: bool = False
    """Give the branch the stream's norm, token by token, before the factor."""
    zero_init: bool = False
    """Start the output projection at zero."""


VARIANTS: dict[VariantName, Injection | None] = {
    "none": None,
    "A": Injection(),
    "B": Injection(weight=0.1),
    "C": Injection(weight=0.1, normalise=True, norm_match=True),
    "D": Injection(zero_init=True),
    "E": Injection(weight=0.1, learned="scalar"),
    "layer_scale": Injection(weight=0.1, learned="channels"),
}
"""none: the base. A: the seed's bug. B: the seed's fix. C: the complete fix that its header names. D: zero-initialised
output projection. E: the seed's "future work", a learnable scalar; and one per channel."""


class CrossAttention(nn.Module):
    """Multi-head attention from a stream to a context; returns the branch that is added, already scaled.

    Xavier-uniform weights and zero biases as in the original (`adapter_cross_attention.py`). Its dropout of 0.1 is left
    out: the original keeps the model in evaluation mode throughout, so it never acts.

    Args:
        width: Of the stream.
        context: Width of the context, and of the attention.
        num_heads: Divides `context`.
        injection: See `Injection`.
    """

    def __init__(self, width: int, context: int, num_heads: int, injection: Injection):
        super().__init__()
        self.num_heads, self.injection = num_heads, injection
        self.q_proj, self.k_proj = nn.Linear(width, context), nn.Linear(context, context)
        self.v_proj, self.out_proj = nn.Linear(context, context), nn.Linear(context, width)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if injection.zero_init:
            zero_init_projection(self.out_proj)
        self.scalar = nn.Parameter(torch.tensor(injection.weight)) if injection.learned == "scalar" else None
        self.channels = LayerScale(width, init=injection.weight) if injection.learned == "channels" else None

    def raw(
        self, x: Float[Tensor, "batch token width"], context: Float[Tensor, "batch key context"]
    ) -> Float[Tensor, "batch token width"]:
        """The attention's output before anything scales it; one context for the whole batch is broadcast."""
        if self.injection.normalise:
            context = F.normalize(context, dim=-1)
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.q_proj(x), self.k_proj(context), self.v_proj(context))
        )
        if len(k) != len(q):
            k, v = (part.expand(len(q), -1, -1, -1) for part in (k, v))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(
        self, x: Float[Tensor, "batch token width"], context: Float[Tensor, "batch key context"]
    ) -> Float[Tensor, "batch token width"]:
        """The branch to add to `x`."""
        branch = self.raw(x, context)
        if self.injection.norm_match:
            branch = norm_match(branch, x)
        if self.channels is not None:
            return self.channels(branch)
        if self.scalar is not None:
            return self.scalar * branch
        return branch if self.injection.weight == 1 else self.injection.weight * branch
