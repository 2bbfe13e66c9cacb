"""What may be chosen on the command line; imports no framework, so that the registry can."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Configuration = Literal["old", "new", "option_a", "option_b", "option_c"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Size and data of the case."""

    config: Configuration | None = None
    """The seed's configuration to train; by default old, new and option_a, with paper new."""
    preset: Literal["laptop", "paper"] = "laptop"
    """laptop: small, on generated tasks. paper: the original's size in bf16 on ARC's tasks; needs `data` and a GPU."""
    data: Path | None = None
    """Folder of ARC tasks (JSON) in the place of generated ones, or one that holds arc-agi-1, whose training tasks are
    taken; by default $PITPROP_DATA, where that is set."""
    size: int | None = None
    """Side of the canvas, by default 6: tasks of a folder that fit are taken, generated ones have 6 to 10; 30 with
    paper."""
    steps: int | None = None
    """Optimizer steps of each training: by default 240, with paper one epoch."""
    seeds: int = 1
    """Number of seeds, 0 to seeds - 1; with --claims 5, with paper 1."""
