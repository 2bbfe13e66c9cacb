"""What may be chosen on the command line; imports no framework, so that the registry can."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Size of the case."""

    images: int = 100
    """Images in the stream; 1000 are the long run of the seed."""
    mode: str | None = None
    """Only this weight mode, beside `fixed`; by default all of them."""
    seeds: int | None = None
    """Networks that learn side by side; by default 1, or 10 with --claims."""
    source: str = "digits"
    """`digits`, or `photographs` (crops of ten photographs, averaged down to 8x8)."""
