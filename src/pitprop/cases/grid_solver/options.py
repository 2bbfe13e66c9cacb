"""What may be chosen on the command line; imports no framework, so that the registry can."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Configuration = Literal["old", "new", "option_a", "option_b", "option_c"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Size and data of the case."""

    config: Configuration | None = None
    """The seed's configuration to train; by default old, new and option_a."""
    data: Path | None = None
    """Folder of ARC tasks (JSON) in the place of generated ones; by default $PITPROP_DATA, where that is set."""
    size: int = 6
    """Side of the canvas: tasks of a folder that fit are taken, generated ones have 6 to 10."""
    steps: int = 240
    """Optimizer steps of each training."""
    seeds: int = 1
    """Number of seeds, 0 to seeds - 1; with --claims 5."""
