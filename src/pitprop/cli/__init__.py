"""The command line: verbs only, the work is elsewhere.

Exit codes: 0 nothing to report, 1 findings or a diagnosed collapse, 2 unusable input, 130 interrupted.
"""

import sys
from collections.abc import Sequence

from cyclopts import CycloptsError
from rich.console import Console
from rich.panel import Panel

from pitprop._errors import USAGE, PitpropError
from pitprop.cli import catalogue, diagnose, models, rescue, traces  # noqa: F401 (they register their verbs)
from pitprop.cli._app import INTERRUPTED, app
from pitprop.cli._say import escape, print_json

__all__ = ["app", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return app(arguments, exit_on_error=False, print_error=True, result_action="return_value") or 0
    except CycloptsError:
        return USAGE
    except PitpropError as error:
        if "--json" in arguments:
            print_json({"error": {k: getattr(error, k) for k in ("seen", "means", "do", "allow", "read")}})
        else:
            Console(stderr=True).print(
                Panel(escape(str(error)), title="pitprop", border_style="red", title_align="left")
            )
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was done is kept, the same command goes on from there")
        return INTERRUPTED
