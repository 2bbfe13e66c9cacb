"""Verbs that build a model: `check` and `case`."""

import importlib
import json as json_
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pitprop.cli._app import Allow, Json, Knobs, app
from pitprop.cli._findings import Format, exit_code, show
from pitprop.cli._recipes import pairs, reference_of
from pitprop.cli._say import escape, print_json, progress_bar, say
from pitprop.cli.diagnose import PAGE, find_cause
from pitprop.records import Severity


@app.command
def check(
    recipe: str,
    /,
    *,
    allow: Allow = (),
    knob: Knobs = (),
    seed: int = 0,
    fail_on: Severity = "failure",
    format: Format = "text",
    json: Json = False,
) -> int:
    """Ask a model and its training step the questions worth asking before training, on a few batches.

    Args:
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        seed: Seed to build the model with.
        fail_on: Lowest severity that makes the exit code 1.
    """
    from pitprop.trials.preflight import check_recipe

    form = "json" if json else format
    with progress_bar(quiet=True):  # what a recipe prints is not part of the answer
        checked = check_recipe(reference_of(recipe), pairs(knob), seed, allow)
    show(checked.findings, form, {"recipe": recipe}, checked.places, checked.place)
    if form == "text" and all(finding.severity == "note" for finding in checked.findings):
        say("Nothing wrong was found.")
    return exit_code(checked.findings, fail_on)


@app.command
def case(
    name: str, /, *, claims: bool = False, diagnose: bool = True, out: Path | None = None, json: Json = False
) -> int:
    """Reproduce one of the published collapses as a whole system, with its remedies, and find its cause.

    Args:
        name: Name of the case (`pitprop list cases`).
        claims: Judge every claim of the original post-mortem, each by its trial.
        diagnose: Also find the cause by trials, as `pitprop diagnose NAME` does.
        out: Folder for what the case writes; by default runs/NAME-case.
    """
    from pitprop import report as reports
    from pitprop.cases import by_name

    found = by_name(name)
    module, _, attribute = found.run.partition(":")
    folder = out or Path("runs") / f"{name}-case"
    with progress_bar(quiet=json) as progress:
        result = getattr(importlib.import_module(module), attribute)(folder, claims=claims, progress=progress)
    if not json:
        table = Table(title=found.title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for row in result.rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        Console().print(table)
        for file in result.files:
            say(f"  [dim]{file}[/dim]")
    document = {"case": name, "rows": [list(row) for row in result.rows], "files": [str(f) for f in result.files]}
    if diagnose:
        _, built = find_cause(found.recipe, folder / "diagnosis", {}, quiet=json)
        document["diagnosis"] = json_.loads(reports.to_json(built))
        if not json:
            say("")
            reports.to_text(built, Console())
            say(f"\nThe report: [bold]{folder / 'diagnosis' / PAGE}[/bold]")
    if json:
        print_json(document)
    return 0
