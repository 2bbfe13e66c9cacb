"""What reads grids: the asked grid cell by cell, and the shown pairs as a few tokens each."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pitprop.cases.grid_solver.canvas import PAD


def sinusoid(length: int, width: int) -> Float[Tensor, "length width"]:
    """Sines and cosines of the position at wavelengths from 2 pi to 10 000 (2 pi)."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rate = 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    return torch.stack([(position * rate).sin(), (position * rate).cos()], -1).flatten(1)


class GridEncoder(nn.Module):
    """Colours and positions of the asked grid.

    Args:
        width: Channels; a multiple of 8.
        rows_twice: As the original does it: the half of the position that should tell the columns apart encodes the row
            once more, because a transposed array is transposed back.
    """

    def __init__(self, width: int, *, rows_twice: bool = False, dropout: float = 0.1):
        super().__init__()
        self.width, self.rows_twice = width, rows_twice
        self.colour = nn.Embedding(PAD + 1, width // 2)
        nn.init.trunc_normal_(self.colour.weight, std=width**-0.5)
        self.mix, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.mix.weight)
        self.dropout = nn.Dropout(dropout)
        self.features = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def positions(self, rows: int, columns: int) -> Float[Tensor, "row column half"]:
        """Position of each cell, half of the channels for the row and half for the column."""
        by_row = sinusoid(rows, self.width // 4)[:, None].expand(-1, columns, -1)
        by_column = sinusoid(columns, self.width // 4)[None].expand(rows, -1, -1)
        return torch.cat([by_row, by_row if self.rows_twice else by_column], -1)

    def embed(self, grids: Int[Tensor, "*task row column"]) -> Float[Tensor, "*task row column width"]:
        """Embedding before the projection to features; the solver reads it again at every step."""
        place = self.positions(*grids.shape[-2:]).to(self.colour.weight).expand(*grids.shape, -1)
        return self.dropout(self.norm(self.mix(torch.cat([self.colour(grids), place], -1)))) * self.width**0.5

    def forward(self, embedded: Float[Tensor, "*task row column width"]) -> Float[Tensor, "*task row column width"]:
        return self.features(embedded)


class ContextEncoder(nn.Module):
    """Shown pairs as tokens.

    Args:
        width: Channels; a multiple of 8.
        size: Side of the canvas.
        places: Tokens per pair are `places` x `places`.
        masks: Mark the tokens of pairs that aren't there, so that attention leaves them out. The original only
            multiplies them by 0, and a key of zeros still takes its share of the attention.
    """

    def __init__(self, width: int, size: int, *, places: int = 8, masks: bool = True):
        super().__init__()
        self.places, self.masks = places, masks
        self.colour = nn.Embedding(PAD + 1, width)
        self.place = nn.Parameter(torch.randn(size, size, width) * 0.02)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.before, self.after = (nn.Sequential(*_conv(width), *_conv(width)) for _ in range(2))
        self.difference = nn.Sequential(
            nn.Conv2d(3 * width, width, 1), nn.GroupNorm(8, width), nn.GELU(), *_conv(width)
        )
        self.pool = nn.AdaptiveAvgPool2d(places)
        self.after_pool = nn.Conv2d(width, width, 3, padding=1)
        self.token_place = nn.Parameter(torch.randn(width, places, places) * 0.02)

    def forward(
        self,
        inputs: Int[Tensor, "task pair row column"],
        outputs: Int[Tensor, "task pair row column"],
        shown: Bool[Tensor, "task pair"],
    ) -> Float[Tensor, "task pair place width"]:
        """Tokens of each pair; zeros where the pair isn't there."""
        read = []
        for grids, convolve in ((inputs, self.before), (outputs, self.after)):
            embedded = self.mix(self.colour(grids.flatten(0, 1)) + self.place)
            read.append(convolve(embedded.permute(0, 3, 1, 2).contiguous()))
        joined = self.difference(torch.cat([*read, read[1] - read[0]], 1))
        tokens = self.after_pool(self.pool(joined)) + self.token_place
        tokens = tokens.flatten(2).transpose(1, 2).reshape(*inputs.shape[:2], self.places**2, -1).contiguous()
        return tokens * shown[..., None, None]

    def hidden_keys(self, shown: Bool[Tensor, "task pair"]) -> Bool[Tensor, "task key"] | None:
        """True for tokens that attention must leave out, or None where nothing is left out."""
        return (~shown).repeat_interleave(self.places**2, 1) if self.masks else None


def pooled(
    tokens: Float[Tensor, "task pair place width"], shown: Bool[Tensor, "task pair"]
) -> Float[Tensor, "task width"]:
    """Mean over the pairs that are there and their places."""
    return (tokens.mean(2) * shown[..., None]).sum(1) / shown.sum(1, keepdim=True).clamp(min=1)


def _conv(width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU()
