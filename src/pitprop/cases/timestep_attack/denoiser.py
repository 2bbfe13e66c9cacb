"""The small denoiser: a class-conditioned U-Net on 8x8 pixels whose attention goes through a controller.

32 channels, 8x8 -> 4x4 -> 8x8, three self- and three cross-attention layers of two heads, a context of three tokens
(start, class, end) as a text encoder gives. It works on pixels, so that encoder and decoder are the identity. The
original is Stable Diffusion 2 base, which the preset `paper` loads.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pitprop.cases._cache import cached
from pitprop.cases.timestep_attack import data
from pitprop.cases.timestep_attack.backbone import Control

NULL, START, END = data.NUM_LABELS, data.NUM_LABELS + 1, data.NUM_LABELS + 2
NUM_GROUPS, NUM_HEADS, TIME_WIDTH = 4, 2, 64


@dataclass(frozen=True, kw_only=True)
class DenoiserSettings:
    """How the denoiser is trained."""

    source: data.Source = "digits"
    channels: int = 32
    steps: int = 900
    batch_size: int = 64
    lr: float = 2e-3
    condition_drop: float = 0.1
    """Share of the images that are shown without their label."""
    seed: int = 0


class Attention(nn.Module):
    """Self-attention over positions, or cross-attention to the context, with the map shown to a controller."""

    def __init__(self, width: int, place: str, is_cross: bool):
        super().__init__()
        self.place, self.is_cross = place, is_cross
        self.norm = nn.GroupNorm(NUM_GROUPS, width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b t c"], control: Control | None
    ) -> Float[Tensor, "b c h w"]:
        """`x` plus what it attends to."""
        queries = self.norm(x).flatten(2).transpose(1, 2)
        keys = context if self.is_cross else queries
        q, k, v = (self._heads(part) for part in (self.to_q(queries), self.to_k(keys), self.to_v(keys)))
        attention = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        if control is not None:
            attention = control(attention, self.is_cross, self.place)
        out = self.to_out((attention @ v).transpose(1, 2).flatten(2))
        # GroupNorm's backward wants contiguous gradients on the CPU.
        return x + out.transpose(1, 2).reshape(x.shape).contiguous()

    @staticmethod
    def _heads(x: Float[Tensor, "b n c"]) -> Float[Tensor, "b head n d"]:
        return x.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)


class Residual(nn.Module):
    """Two convolutions with the time embedding between them."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(NUM_GROUPS, width_in), nn.GroupNorm(NUM_GROUPS, width)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(TIME_WIDTH, width)
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b e"]) -> Float[Tensor, "b d h w"]:
        """`x` and its refinement."""
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class UNet(nn.Module):
    """Noise of 8x8 images."""

    def __init__(self, image_channels: int = 1, channels: int = 32):
        super().__init__()
        c = channels
        self.time = nn.Sequential(nn.Linear(TIME_WIDTH, TIME_WIDTH), nn.SiLU(), nn.Linear(TIME_WIDTH, TIME_WIDTH))
        self.tokens = nn.Embedding(data.NUM_LABELS + 3, c)
        self.input = nn.Conv2d(image_channels, c, 3, padding=1)
        self.down, self.mid1, self.mid2, self.up = Residual(c, c), Residual(c, c), Residual(c, c), Residual(2 * c, c)
        self.shrink = nn.Conv2d(c, c, 3, stride=2, padding=1)
        self.attention = nn.ModuleList(
            Attention(c, place, is_cross) for place in ("down", "mid", "up") for is_cross in (False, True)
        )
        self.output = nn.Sequential(nn.GroupNorm(NUM_GROUPS, c), nn.SiLU(), nn.Conv2d(c, image_channels, 3, padding=1))

    def context(self, labels: Int[Tensor, " b"]) -> Float[Tensor, "b 3 c"]:
        """Start, class (`NULL`: none) and end."""
        ends = (torch.full_like(labels, START), labels, torch.full_like(labels, END))
        return self.tokens(torch.stack(ends, 1))

    def forward(
        self,
        x: Float[Tensor, "b i 8 8"],
        timestep: Int[Tensor, " b"],
        context: Float[Tensor, "b t c"],
        control: Control | None = None,
    ) -> Float[Tensor, "b i 8 8"]:
        """The noise in `x`."""
        frequency = torch.exp(-math.log(1e4) * torch.arange(TIME_WIDTH // 2) / (TIME_WIDTH // 2))
        angle = timestep[:, None] * frequency
        time = F.silu(self.time(torch.cat([angle.sin(), angle.cos()], 1)))

        def attend(h: Tensor, first: int) -> Tensor:
            return self.attention[first + 1](self.attention[first](h, context, control), context, control)

        high = attend(self.down(self.input(x), time), 0)
        low = self.mid2(attend(self.mid1(self.shrink(high), time), 2), time)
        h = torch.cat([F.interpolate(low, scale_factor=2), high], 1)
        return self.output(attend(self.up(h, time), 4))


class PixelBackbone:
    """The small denoiser as a `Backbone`; frozen."""

    cross_queries = data.SIDE**2
    final_alpha_cumprod = 1.0

    def __init__(self, unet: UNet):
        self.unet = unet.eval().requires_grad_(False)
        self.alphas_cumprod = alphas_cumprod()

    def timesteps(self, num_steps: int) -> Int[Tensor, " step"]:
        """Falling, with an offset of 1, as Stable Diffusion's scheduler gives them: 951, ..., 1 for 20 steps."""
        return torch.arange(num_steps).flip(0) * (len(self.alphas_cumprod) // num_steps) + 1

    def encode(self, images: Float[Tensor, "stream channel 8 8"]) -> Float[Tensor, "stream channel 8 8"]:
        """The images."""
        return images

    def decode(self, latents: Float[Tensor, "stream channel 8 8"]) -> Float[Tensor, "stream channel 8 8"]:
        """The latents."""
        return latents

    def context(self, labels: Int[Tensor, " stream"]) -> Float[Tensor, "stream 3 width"]:
        """Start, class, end."""
        return self.unet.context(labels)

    def label_tokens(self, labels: Int[Tensor, " stream"]) -> Bool[Tensor, "stream 3"]:
        """The one in the middle."""
        return torch.tensor([False, True, False]).expand(len(labels), 3)

    def null_context(self, num_streams: int) -> Float[Tensor, "stream 3 width"]:
        """Start, no class, end."""
        return self.unet.context(torch.full((num_streams,), NULL))

    def predict_noise(
        self,
        latents: Float[Tensor, "stream channel 8 8"],
        timestep: int,
        context: Float[Tensor, "stream token width"],
        control: Control | None = None,
    ) -> Float[Tensor, "stream channel 8 8"]:
        """The noise in `latents`."""
        return self.unet(latents, torch.full((len(latents),), timestep), context, control)


def alphas_cumprod(num_timesteps: int = 1000) -> Float[Tensor, " train_timestep"]:
    """Of linear betas from 1e-4 to 0.02 (Ho et al. 2020, arXiv 2006.11239)."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, num_timesteps), 0)


def train(settings: DenoiserSettings) -> UNet:
    """Trains from scratch on the noise-prediction loss, with Adam; about 40 s on one quiet core."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        known = data.load(settings.source)[0]
        unet = UNet(known.images.shape[1], settings.channels)
        optimizer = torch.optim.Adam(unet.parameters(), lr=settings.lr, fused=True)
        alphas = alphas_cumprod()
        for _ in range(settings.steps):
            at = torch.randint(len(known.images), (settings.batch_size,))
            timestep = torch.randint(len(alphas), (settings.batch_size,))
            drop = torch.rand(settings.batch_size) < settings.condition_drop
            noise = torch.randn_like(known.images[at])
            alpha = alphas[timestep, None, None, None]
            noisy = alpha.sqrt() * known.images[at] + (1 - alpha).sqrt() * noise
            context = unet.context(torch.where(drop, NULL, known.labels[at]))
            loss = F.mse_loss(unet(noisy, timestep, context), noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return unet


def load(settings: DenoiserSettings = DenoiserSettings()) -> PixelBackbone:
    """The trained denoiser, from the cache where it is there."""

    def make() -> Mapping[str, Tensor]:
        return train(settings).state_dict()

    state = cached("timestep_attack-denoiser", settings, (sys.modules[__name__], data), make)
    unet = UNet(state["input.weight"].shape[1], settings.channels)
    unet.load_state_dict(state)
    return PixelBackbone(unet)
