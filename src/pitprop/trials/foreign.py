"""Files that a trial would overwrite in a folder that is not its own: the user's (`--out .`), or a watched run's."""

import json
from collections.abc import Callable
from pathlib import Path

from pitprop._errors import PitpropError


def refuse_foreign(folder: Path) -> None:
    """Raise where `folder` holds a file that no trial wrote, by a name that a trial, diagnosis or bisection writes to.

    Raises:
        PitpropError: There is one, or one that may not be read.
    """
    # A diagnosis writes its trace under the lock, and `watched.json` when the trace is whole.
    if (folder / "trace.sqlite").exists() and not any((folder / n).exists() for n in ("runs/.lock", "watched.json")):
        raise PitpropError(
            f"`{folder}` holds the trace of a watched run.",
            means="A trial of its own beside it would be taken for that run's, and a diagnosis would overwrite it.",
            do="give a folder of its own (--out).",
        )
    for name, is_ours in OURS.items():
        path = folder / name
        try:
            ours = not path.exists() or is_ours(path.read_bytes())
        except OSError as error:
            raise PitpropError(
                f"`{path}` cannot be read: {error.strerror}.",
                means="It would be overwritten, whatever it is.",
                do="make it readable, or give another folder.",
            ) from error
        if not ours:
            raise PitpropError(
                f"`{path}` was not written by pitprop, and would be overwritten.",
                means="The folder is not the trial's own.",
                do="give a folder of its own (--out), or move the file away.",
            )


def _json_with(*keys: str) -> Callable[[bytes], bool]:
    """Whether a file is a JSON object with all of `keys`."""

    def holds(content: bytes) -> bool:
        try:
            data = json.loads(content)
        except ValueError:
            return False
        return isinstance(data, dict) and set(keys) <= set(data)

    return holds


def _page(content: bytes) -> bool:
    """Whether an HTML file names pitprop as its generator."""
    return b'<meta name="generator" content="pitprop' in content[:4096]


OURS: dict[str, Callable[[bytes], bool]] = {
    "plan.json": _json_with("recipe", "metric", "confirm_seeds"),
    "trial.json": _json_with("plan", "comparisons", "conclusion"),
    "bisection.json": _json_with("plan", "ends", "statement"),
    "report.html": _page,
}
"""Name -> whether what lies there is ours, whichever version wrote it."""
