"""The command line: verbs only, the work is elsewhere.

Exit codes: 0 nothing to report, 1 findings or a diagnosed collapse, 2 unusable input, 70 a bug in pitprop, 130
interrupted.
"""

import contextlib
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from itertools import pairwise

from cyclopts import CycloptsError, UnusedCliTokensError
from rich.console import Console
from rich.panel import Panel

from pitprop._errors import USAGE, PitpropError
from pitprop.cli import bisect, case, catalogue, check, diagnose, rescue, traces, trial  # noqa: F401 (register verbs)
from pitprop.cli._app import INTERRUPTED, app
from pitprop.cli._say import escape, print_json

__all__ = ["app", "main"]

CRASHED = 70
"""EX_SOFTWARE of sysexits.h."""

RESUMABLE = ("bisect", "diagnose", "rescue", "trial")
"""Verbs that keep what an interrupt leaves."""

EXTRAS = {
    "diffusers": "paper",
    "flax": "jax",
    "jax": "jax",
    "jinja2": "report",
    "markdown_it": "report",
    "markupsafe": "report",
    "matplotlib": "cases",
    "optax": "jax",
    "platformdirs": "cases",
    "pyarrow": "parquet",
    "safetensors": "torch",
    "skimage": "cases",
    "sklearn": "cases",
    "torch": "torch",
    "transformers": "paper",
}
"""Module -> the extra that brings it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments or "--format=json" in arguments or ("--format", "json") in pairwise(arguments)
    resumes = arguments[:1] and arguments[0] in RESUMABLE
    try:
        with _sigterm_as_ctrl_c() if resumes else contextlib.nullcontext():
            return app(arguments, exit_on_error=False, print_error=not as_json, result_action="return_value") or 0
    except CycloptsError as error:
        if as_json:
            print_json({"error": {"seen": str(error), "do": "pitprop --help"}})
        elif isinstance(error, UnusedCliTokensError):
            Console(stderr=True).print("For several values repeat the option, or see `--help` for lists with commas.")
        return USAGE
    except PitpropError as error:
        return _refuse(error, as_json)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            return _crash()
        return _refuse(
            PitpropError(
                f"`{error.name}` is not installed",
                means="This verb needs it, and a plain installation of pitprop does not bring it.",
                do=f"pip install 'pitprop[{EXTRAS[error.name]}]'",
            ),
            as_json,
        )
    except (NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError) as error:
        if error.filename is None:
            return _crash()
        do = "name another place, or make this one a folder or file that you may read and write."
        return _refuse(PitpropError(f"{error.filename}: {error.strerror}", do=do), as_json)
    except KeyboardInterrupt:
        again = f"; what was done is kept, and this goes on from there:\n  {shlex.join(['pitprop', *arguments])}"
        Console(stderr=True).print(escape(f"interrupted{again if resumes else ''}"), soft_wrap=True, highlight=False)
        return INTERRUPTED
    except Exception:
        return _crash()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A batch system that ends a job should leave what an interrupt leaves, not workers in the middle of a run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse(error: PitpropError, as_json: bool) -> int:
    if as_json:
        print_json({"error": {k: getattr(error, k) for k in ("seen", "means", "do", "allow", "read")}})
    else:
        Console(stderr=True).print(Panel(escape(str(error)), title="pitprop", border_style="red", title_align="left"))
    return error.exit_code


def _crash() -> int:
    """A bug of ours: the traceback belongs to whoever mends it, and the exit code must not look like a finding's."""
    traceback.print_exc()
    Console(stderr=True).print("This is a bug in pitprop, not in your training; please report it with the lines above.")
    return CRASHED
