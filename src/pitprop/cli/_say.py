"""What every verb prints with: text, one strict JSON document, or a progress bar."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar

from pitprop.trials.progress import Progress

__all__ = ["escape", "print_json", "progress_bar", "say"]


def say(text: str, end: str = "\n") -> None:
    Console().print(text, end=end, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    print(json.dumps(_strict(value), indent=2, allow_nan=False))


def _strict(value: Any) -> Any:
    """`value` with NaN and infinities as strings: JSON has no such numbers, and undefined must not look like 0."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _strict(v) for key, v in value.items()}
    return [_strict(v) for v in value] if isinstance(value, (list, tuple)) else value


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar with an estimate, on stderr; what it yields takes a `Progress`.

    What a recipe or Ray prints meanwhile goes to stderr too: stdout is the answer's alone.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with (
        contextlib.redirect_stdout(sys.stderr),
        Bar(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar,
    ):
        task = bar.add_task("starting", total=None, left="")

        def tell(now: Progress) -> None:
            left = "" if now.remaining_s is None else f"about {now.remaining_s:.0f} s left"
            bar.update(task, description=now.stage, completed=now.done, total=now.total, left=left)

        yield tell
