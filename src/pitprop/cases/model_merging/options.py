"""What may be chosen on the command line; imports no framework, so that the registry can."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Size of the case."""

    seeds: int | None = None
    """Number of seeds; by default 2, or 5 with --claims."""
    steps: int = 100
    """Steps of each training and of each recovery."""
