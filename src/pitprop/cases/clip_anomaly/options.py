"""What may be chosen on the command line, and the sizes of both presets; imports no framework, so the registry can."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VariantName = Literal["none", "A", "B", "C", "D", "E", "layer_scale"]
"""How the cross-attention is put in; `cross_attention.VARIANTS` says what each does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSize:
    """The towers and what is put into them. The defaults are `laptop`'s; in brackets: ViT-L-14-336."""

    image_size: int = 64
    """Side of the image in pixels (518)."""
    patch: int = 8
    """Side of a patch in pixels (14)."""
    vision_width: int = 64
    """Width of the image tower (1024)."""
    vision_layers: int = 4
    """Blocks of the image tower (24)."""
    text_layers: int = 3
    """Blocks of the text tower (12)."""
    embed: int = 48
    """Width of the text tower and of the common space (768)."""
    num_heads: int = 4
    """Heads of both towers (16 and 12)."""
    text_length: int = 16
    """Tokens of a prompt, padding included (77)."""
    levels: tuple[int, ...] = (1, 2, 3, 4)
    """Blocks after which patch features are taken (6, 12, 18, 24)."""
    image_adapters: int = 1
    """Adapters in the image tower, after the blocks from 0 on (6)."""
    text_adapters: int = 1
    """Adapters in the text tower, after the blocks from 0 on (3)."""
    surgery_layers: int = 3
    """Last blocks whose attention is of values to values in the features of stage 1 (19)."""
    cross_heads: int = 4
    """Heads of the cross-attention (8)."""


PAPER = ClipSize(
    image_size=518,
    patch=14,
    vision_width=1024,
    vision_layers=24,
    text_layers=12,
    embed=768,
    num_heads=16,
    text_length=77,
    levels=(6, 12, 18, 24),
    image_adapters=6,
    text_adapters=3,
    surgery_layers=19,
    cross_heads=8,
)
"""The original: ViT-L-14-336 at 518 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Size of the case."""

    seeds: int | None = None
    """Number of seeds; by default 2, or 5 with --claims."""
    steps: int | None = None
    """Steps of stage 2 in one feedback loop; by default 60."""
    variant: VariantName | None = None
    """Only this way of putting the cross-attention in, beside the base without it; by default all."""
    context_norm: float = 50.0
    """Wanted norm of the text context over that of the features; the original's is far over 1."""
    preset: Literal["laptop", "paper"] = "laptop"
    """laptop: photographs and a small CLIP made here. paper: ViT-L-14-336 at 518 pixels; needs `clip` and `data`."""
    clip: Path | None = None
    """Local folder of a CLIPModel of transformers: config.json, model.safetensors, tokeniser (paper)."""
    data: Path | None = None
    """Folder in the layout of VisA or MVTec AD, or the one that `metadata`'s paths start from (paper)."""
    metadata: Path | None = None
    """JSON lines that name the photographs, such as AA-CLIP's full-shot.jsonl; by default the layout does (paper)."""
    paper_steps: int | None = None
    """Steps of each stage, in place of the original's epochs (paper)."""
