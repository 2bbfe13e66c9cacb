"""`pitprop case NAME`: one command per case, so that each has options of its own."""

import importlib
import json as json_
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from pitprop.cases import CASES, Case
from pitprop.cli._app import Json, app
from pitprop.cli._say import escape, print_json, progress_bar, say
from pitprop.cli.diagnose import PAGE, find_cause

cases = App(
    name="case",
    help="Reproduce one of the published collapses as a whole system, with its remedies, and find its cause.",
)
app.command(cases)


def _command(found: Case) -> Callable[..., int]:
    def command(
        *,
        claims: bool = False,
        diagnose: bool | None = None,
        out: Path | None = None,
        json: Json = False,
        options: Any = None,
    ) -> int:
        """Reproduce the case.

        Args:
            claims: Judge every claim of the original post-mortem, each by its trial.
            diagnose: Also find the cause by trials, as `pitprop diagnose NAME` does; not at full size. By default where
                both take a few minutes together.
            out: Folder for what the case writes; by default runs/NAME-case.
        """
        return _run(found, found.options() if options is None else options, claims, diagnose, out, json)

    command.__annotations__["options"] = Annotated[found.options, Parameter(name="*")]
    return command


for _case in CASES:
    cases.command(_command(_case), name=_case.name, help=f"Reproduce: {_case.title}.")


def _run(found: Case, options: Any, claims: bool, diagnose: bool | None, out: Path | None, json: bool) -> int:
    from pitprop import report as reports

    module, _, attribute = found.run.partition(":")
    folder = out or Path("runs") / f"{found.name}-case"
    with progress_bar(quiet=json) as progress:
        result = getattr(importlib.import_module(module), attribute)(folder, options, claims=claims, progress=progress)
    if not json:
        table = Table(title=found.title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for row in result.rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        Console().print(table)
        for file in result.files:
            say(f"  [dim]{file}[/dim]")
    document = {"case": found.name, "rows": [list(row) for row in result.rows], "files": [str(f) for f in result.files]}
    asked = found.diagnose if diagnose is None else diagnose
    if result.diagnose and not asked and not json:
        say(f"\nThe cause by trials: [bold]pitprop diagnose {found.name}[/bold]")
    if result.diagnose and asked:
        _, built = find_cause(found.recipe, folder / "diagnosis", {}, quiet=json)
        document["diagnosis"] = json_.loads(reports.to_json(built))
        if not json:
            say("")
            reports.to_text(built, Console())
            say(f"\nThe report: [bold]{folder / 'diagnosis' / PAGE}[/bold]")
    if json:
        print_json(document)
    return 0
