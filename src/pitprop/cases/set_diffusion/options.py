"""What may be chosen on the command line; imports no framework, so that the registry can."""

from dataclasses import dataclass
from typing import Literal

FixName = Literal[
    "gradient clipping",
    "adaLN normal",
    "LayerNorm scale",
    "warm-up and cosine",
    "learnable null context",
    "weight decay",
    "two thirds of the depth",
]
"""What the seed's list asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Size of the case."""

    seeds: int | None = None
    """Number of seeds; by default 2, or 8 with --claims."""
    steps: int | None = None
    """Steps of each training, a multiple of 50; by default 800."""
    fix: FixName = "adaLN normal"
    """The change of the seed's list that is shown beside the original and the synchronised training."""
