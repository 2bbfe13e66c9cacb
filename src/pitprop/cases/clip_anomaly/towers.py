"""The two towers of CLIP, small enough to be trained here; `paper` wraps the real ones in the same shape.

Architecture: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
arXiv 2103.00020: pre-norm transformers, a class token in the image tower, the end token's output in the text tower.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pitprop.cases.clip_anomaly.options import ClipSize


class VisionTower(Protocol):
    """What the adapted model needs of an image tower. Token 0 is the class token, the rest are patches by rows."""

    width: int
    embed: int
    blocks: nn.ModuleList
    """Each takes and returns `[image, token, width]`; with `surgery=True`, attention of values to values."""

    def stem(self, image: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image token width"]:
        """Everything before the first block."""
        ...

    def ln_post(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]: ...

    def project(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch embed"]: ...


class TextTower(Protocol):
    """What the adapted model needs of a text tower."""

    width: int
    embed: int
    blocks: nn.ModuleList
    """Each takes and returns `[prompt, token, width]`, causally masked."""

    def stem(self, ids: Int[Tensor, "prompt token"]) -> Float[Tensor, "prompt token width"]:
        """Everything before the first block."""
        ...

    def ln_final(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]: ...

    def end(self, ids: Int[Tensor, "prompt token"]) -> Int[Tensor, " prompt"]:
        """Position of the end token."""
        ...

    def tokenise(self, prompts: list[str]) -> Int[Tensor, "prompt token"]: ...


class TwoTowers(Protocol):
    """A CLIP: a module with these two parts."""

    @property
    def visual(self) -> VisionTower: ...

    @property
    def text(self) -> TextTower: ...


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, num_heads: int, *, causal: bool = False):
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "batch token width"], surgery: bool = False) -> Tensor:
        """`surgery`: attention of values to values (CLIP Surgery, Li et al., arXiv 2304.05653)."""
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        if surgery:
            q = k = v
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class SmallVision(nn.Module):
    """A ViT: patches by a linear map, a class token, learned positions."""

    def __init__(self, size: ClipSize):
        super().__init__()
        self.width, self.embed, self.patch = size.vision_width, size.embed, size.patch
        num_patches = (size.image_size // size.patch) ** 2
        self.patch_embed = nn.Linear(3 * size.patch**2, self.width, bias=False)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, self.width))
        self.position = nn.Parameter(0.02 * torch.randn(1, num_patches + 1, self.width))
        self.ln_pre, self.ln_post = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
        self.blocks = nn.ModuleList(Block(self.width, size.num_heads) for _ in range(size.vision_layers))
        self.projection = nn.Linear(self.width, self.embed, bias=False)

    def stem(self, image: Float[Tensor, "image 3 height width"]) -> Tensor:
        patches = F.unfold((image - 0.45) / 0.25, self.patch, stride=self.patch).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(image), -1, -1), self.patch_embed(patches)], 1)
        return self.ln_pre(tokens + self.position)

    def project(self, x: Tensor) -> Tensor:
        return self.projection(x)

    def forward(self, image: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image embed"]:
        """The class token's embedding."""
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        return self.projection(self.ln_post(x[:, 0]))


class SmallText(nn.Module):
    """A causal transformer over words."""

    def __init__(self, size: ClipSize, vocabulary: tuple[str, ...]):
        super().__init__()
        self.width, self.embed, self.length = size.embed, size.embed, size.text_length
        self.vocabulary = ("<pad>", "<start>", "<end>", *vocabulary)
        self.embedding = nn.Embedding(len(self.vocabulary), self.width)
        self.position = nn.Parameter(0.02 * torch.randn(1, self.length, self.width))
        self.blocks = nn.ModuleList(Block(self.width, size.num_heads, causal=True) for _ in range(size.text_layers))
        self.ln_final = nn.LayerNorm(self.width)
        self.projection = nn.Linear(self.width, self.embed, bias=False)

    def tokenise(self, prompts: list[str]) -> Int[Tensor, "prompt token"]:
        """Words to numbers: start, words, end, and padding up to the length."""
        ids = torch.zeros(len(prompts), self.length, dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            words = [1, *(self.vocabulary.index(word) for word in prompt.replace(".", " .").split()), 2]
            row[: len(words)] = torch.tensor(words)
        return ids

    def stem(self, ids: Int[Tensor, "prompt token"]) -> Tensor:
        return self.embedding(ids) + self.position

    def end(self, ids: Int[Tensor, "prompt token"]) -> Int[Tensor, " prompt"]:
        return (ids == 2).int().argmax(1)

    def forward(self, ids: Int[Tensor, "prompt token"]) -> Float[Tensor, "prompt embed"]:
        """The end token's embedding."""
        x = self.stem(ids)
        for block in self.blocks:
            x = block(x)
        return self.projection(self.ln_final(x)[torch.arange(len(ids)), self.end(ids)])


class SmallCLIP(nn.Module):
    """Both towers."""

    def __init__(self, size: ClipSize, vocabulary: tuple[str, ...]):
        super().__init__()
        self.visual = SmallVision(size)
        self.text = SmallText(size, vocabulary)
