"""What `pitprop case NAME` prints."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What the command line prints of a case."""

    title: str
    rows: tuple[tuple[str, str], ...]
    """What was measured, and the value, in the order to print them."""
    files: tuple[Path, ...]
    """What was written."""
    diagnose: bool = True
    """Whether the case's recipe is the system that ran, so that a diagnosis of it belongs beside the rows."""
