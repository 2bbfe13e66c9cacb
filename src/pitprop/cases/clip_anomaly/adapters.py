"""The adapters of AA-CLIP (upstream `model/adapter.py`), written anew from the formulas.

A residual adapter is norm-matched and convex: `0.1 * adapt(x) * |x| / |adapt(x)| + 0.9 * x`. The seed speaks of its 0.1
and leaves the norm matching out, which is the half that its own cross-attention lacks.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pitprop.cases.clip_anomaly.options import ClipSize
from pitprop.remedies.torch.norm_match import norm_match

WEIGHT = 0.1
"""Of the adapter's output; `image_adapt_weight` and `text_adapt_weight` in the original."""


class SimpleAdapter(nn.Module):
    """A linear map without bias, then LeakyReLU."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.fc = nn.Linear(c_in, c_out, bias=False)
        nn.init.xavier_uniform_(self.fc.weight)

    def forward(self, x: Float[Tensor, "*batch c_in"]) -> Float[Tensor, "*batch c_out"]:
        return F.leaky_relu(self.fc(x))


class SimpleProj(nn.Module):
    """A linear map without bias, then LeakyReLU where asked for."""

    def __init__(self, c_in: int, c_out: int, *, relu: bool):
        super().__init__()
        self.fc, self.relu = nn.Linear(c_in, c_out, bias=False), relu
        nn.init.xavier_uniform_(self.fc.weight)

    def forward(self, x: Float[Tensor, "*batch c_in"]) -> Float[Tensor, "*batch c_out"]:
        x = self.fc(x)
        return F.leaky_relu(x) if self.relu else x


def adapt(adapter: nn.Module, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """The norm-matched convex residual around an adapter."""
    return norm_match(adapter(x), x, strength=WEIGHT) + (1 - WEIGHT) * x


class ImageAdapter(nn.Module):
    """Everything that stage 2 trains in the base model."""

    def __init__(self, size: ClipSize, *, relu: bool = False):
        super().__init__()
        width, embed = size.vision_width, size.embed
        self.layers = nn.ModuleList(SimpleAdapter(width, width) for _ in range(size.image_adapters))
        self.seg_proj = nn.ModuleList(SimpleProj(width, embed, relu=relu) for _ in size.levels)
        self.det_proj = SimpleProj(width, embed, relu=relu)


class TextAdapter(nn.Module):
    """Everything that stage 1 trains in the base model; `proj` takes the place of CLIP's text projection."""

    def __init__(self, size: ClipSize):
        super().__init__()
        self.layers = nn.ModuleList(SimpleAdapter(size.embed, size.embed) for _ in range(size.text_adapters))
        self.proj = SimpleProj(size.embed, size.embed, relu=True)
