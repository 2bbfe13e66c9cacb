"""Dynamic clue selection and relative coordinates: which cells matter, and where every other cell lies from them."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Clues(NamedTuple):
    """What was selected."""

    attention: Float[Tensor, "task clue cell"]
    """Attention of each clue over the cells; sums to 1."""
    usage: Float[Tensor, "task clue"]
    """1 where a clue is used, 0 where the stop head says that it isn't needed."""
    entropy: Float[Tensor, "task clue"]
    """Of the attention, over ln(number of cells of the grid): 1 is uniform."""


class ClueSelection(nn.Module):
    """Selects clues one after another: each looks where the ones before it did not.

    Args:
        width: Channels.
        max_clues: 6 in OLD, 7 in NEW.
        temperature: Of the attention's softmax; the original anneals it from 1 to 0.5.
    """

    def __init__(self, width: int, *, max_clues: int = 7, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature
        self.query = nn.Parameter(torch.randn(max_clues, width) * 0.02)
        self.recur = nn.GRUCell(width, width)
        self.stop = nn.Linear(width + 1, 1)
        nn.init.constant_(self.stop.bias, -1.0)

    def forward(self, features: Float[Tensor, "task cell width"], outside: Bool[Tensor, "task cell"]) -> Clues:
        """`outside`: cells that aren't part of the grid; no clue looks there."""
        width, state = features.shape[-1], torch.zeros_like(features[:, 0])
        most = (~outside).sum(1).clamp(min=2).log()
        still = torch.zeros_like(features[..., 0]).masked_fill(outside, -torch.inf)
        found = []
        for query in self.query:
            scores = ((features @ (query + state)[..., None]).squeeze(-1) / math.sqrt(width)).clamp(-50, 50)
            attention = (scores / self.temperature + still).softmax(-1)
            attended = (attention[:, None] @ features).squeeze(1)
            # Clamped, because the gradient of p ln p at the cells outside, where p is 0, is infinite times zero.
            entropy = torch.special.entr(attention.clamp(min=1e-12)).sum(-1) / most
            stop = 4 * torch.tanh(self.stop(torch.cat([attended, entropy[:, None]], -1)).squeeze(-1) / 4)
            found.append((attention, torch.sigmoid(-stop), entropy))
            state = self.recur(attended, state)
            still = still + torch.log1p(-0.9 * attention)
        return Clues(*(torch.stack(part, 1) for part in zip(*found, strict=True)))


class RelativeCoordinates(nn.Module):
    """Where each cell lies from each clue's centre, as features.

    Six coordinates (row and column distance in cells, the same over the canvas, log distance and angle) with
    `num_bands` Fourier bands, projected to `place_width` channels and mixed with the cell's own features.
    """

    def __init__(self, width: int, *, num_bands: int = 8, place_width: int = 32):
        super().__init__()
        self.num_bands = num_bands
        self.place = nn.Sequential(
            nn.Linear(6 * (1 + 2 * num_bands), place_width), nn.GELU(), nn.Linear(place_width, place_width)
        )
        self.mix = nn.Sequential(nn.Linear(width + place_width, width), nn.GELU(), nn.LayerNorm(width))

    def forward(
        self, features: Float[Tensor, "task cell width"], attention: Float[Tensor, "task clue cell"], size: int
    ) -> Float[Tensor, "task clue cell width"]:
        side = torch.arange(size, device=features.device, dtype=features.dtype)
        cells = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).flatten(0, 1)
        distance = cells[None, None] - (attention @ cells)[:, :, None]
        row, column = distance.unbind(-1)
        # The angle has no gradient at distance 0; a centre on a cell must not make one up.
        angle = torch.atan2(row, column + 1e-6) / math.pi
        radius = torch.log1p((distance.square().sum(-1) + 1e-6).sqrt()) / math.log1p(size * 2**0.5)
        six = torch.stack([row / 10, column / 10, row / size, column / size, radius, angle], -1)
        bands = six[..., None] * (2 ** torch.arange(self.num_bands, device=six.device)) * math.pi
        place = self.place(torch.cat([six, bands.sin().flatten(-2), bands.cos().flatten(-2)], -1))
        every = features[:, None].expand(-1, attention.shape[1], -1, -1)
        return self.mix(torch.cat([every, place], -1))


def aggregate(located: Float[Tensor, "task clue cell width"], clues: Clues) -> Float[Tensor, "task cell width"]:
    """Mean of the clues' views by use, each cell weighted by the clue's attention to it, as in the original.

    An attention weight is about 1 / (number of cells), so that this is small; the solver rescales it.
    """
    weight = clues.attention * clues.usage[..., None]
    total = (located * weight[..., None]).sum(1)
    return total / clues.usage.sum(1).clamp(min=1e-6)[:, None, None]


def clue_penalty(clues: Clues, min_clues: float) -> Float[Tensor, ""]:
    """The original's regularisation: at least `min_clues` used, no more than needed, and none that looks everywhere."""
    used = clues.usage.sum(1)
    sharp = 5 * F.relu(min_clues - used) + 0.02 * used + 0.02 * (clues.usage * clues.entropy).sum(1)
    return 0.5 * sharp.mean() + 0.01 * clues.entropy.mean()
