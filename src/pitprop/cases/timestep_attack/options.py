"""What may be chosen on the command line; imports no framework, so that the registry can."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Size of the case, and what the full size reads."""

    images: int | None = None
    """Images in the stream: by default 100, with paper all of `data`; 1000 are the long run of the seed."""
    mode: str | None = None
    """Only this weight mode, beside `fixed`; by default all of them, with paper `learnable`."""
    seeds: int | None = None
    """Networks that learn side by side; by default 1, or 10 with --claims."""
    source: str = "digits"
    """`digits`, or `photographs` (crops of ten photographs, averaged down to 8x8); laptop only."""
    preset: Literal["laptop", "paper"] = "laptop"
    """laptop: 8x8 pixels, nothing to load. paper: Stable Diffusion 2; needs `stable_diffusion`, `surrogate`, `data`."""
    stable_diffusion: Path | None = None
    """Local folder of Stable Diffusion 2 base as diffusers saves it (paper)."""
    surrogate: Path | None = None
    """Local folder of an ImageNet classifier as transformers saves it (paper)."""
    data: Path | None = None
    """Folder with `images/` and `labels.txt`, one label per line, 1 to 1000 (paper)."""
    class_names: Path | None = None
    """Text file with 1000 prompts, one per line; by default the surrogate's names of its labels (paper)."""
    resolution: int = 224
    """Side of the images in pixels (paper)."""
    device: str | None = None
    """Where it computes, such as cuda:1; by default the GPU where there is one (paper)."""
