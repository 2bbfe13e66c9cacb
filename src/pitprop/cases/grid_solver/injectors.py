"""How the context of the shown pairs reaches the features of the asked grid: FiLM or cross-attention."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class SigmoidFiLM(nn.Module):
    """The original's FiLM, `2 * sigmoid(W c) * f + U c` with W and U at random: near, but not at, the identity.

    `pitprop.remedies.torch.film.FiLM` starts exactly there.
    """

    def __init__(self, width: int):
        super().__init__()
        self.gain, self.shift = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, features: Float[Tensor, "task row column width"], condition: Float[Tensor, "task width"]
    ) -> Float[Tensor, "task row column width"]:
        gain, shift = 2 * torch.sigmoid(self.gain(condition)), self.shift(condition)
        return gain[:, None, None] * features + shift[:, None, None]


class CrossAttentionInjector(nn.Module):
    """The original's injector: cells attend to all tokens of the shown pairs; post-norm, with a feed-forward part.

    It is no residual branch on an unchanged stream, as the seed writes it: both LayerNorms act on the sum, so that it
    isn't the identity even where attention and feed-forward give 0.
    """

    def __init__(self, width: int, *, num_heads: int = 4, dropout: float = 0.1):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, num_heads, dropout=dropout, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(
        self,
        features: Float[Tensor, "task row column width"],
        tokens: Float[Tensor, "task key width"],
        hidden_keys: Bool[Tensor, "task key"] | None = None,
    ) -> Float[Tensor, "task row column width"]:
        cells = features.flatten(1, 2)
        attended, _ = self.attention(cells, tokens, tokens, key_padding_mask=hidden_keys, need_weights=False)
        cells = self.norm1(cells + attended)
        return self.norm2(cells + self.feed_forward(cells)).view_as(features)


class SolverCrossAttention(nn.Module):
    """The original's attention behind every solver step: pre-norm queries and keys, a gate, and a norm on the sum."""

    def __init__(self, width: int, *, num_heads: int = 4):
        super().__init__()
        self.norm_query, self.norm_key, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.gate = nn.Linear(width, width)

    def forward(
        self,
        hidden: Float[Tensor, "task width row column"],
        tokens: Float[Tensor, "task key width"],
        hidden_keys: Bool[Tensor, "task key"] | None = None,
    ) -> Float[Tensor, "task width row column"]:
        cells, keys = hidden.flatten(2).transpose(1, 2), self.norm_key(tokens)
        attended, _ = self.attention(
            self.norm_query(cells), keys, keys, key_padding_mask=hidden_keys, need_weights=False
        )
        mixed = self.norm_out(cells + torch.sigmoid(self.gate(cells)) * attended)
        return mixed.transpose(1, 2).reshape(hidden.shape).contiguous()
