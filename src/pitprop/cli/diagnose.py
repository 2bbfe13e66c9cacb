"""`pitprop diagnose`: the main job."""

import contextlib
import sys
from pathlib import Path

from rich.console import Console

from pitprop.cli._app import FOUND, Json, Knobs, app
from pitprop.cli._recipes import folder_name, pairs, reference_of
from pitprop.cli._say import progress_bar, say


@app.command
def diagnose(
    recipe: str,
    /,
    *,
    knob: Knobs = (),
    seeds: int = 5,
    on: str = "local",
    workers: int | None = None,
    timeout_s: float | None = None,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Find the cause of a collapse by controlled trials, and the remedy that works.

    Watches the recipe's run; where it collapses, forks it before the onset, runs candidate interventions on the same
    seeds and batches, confirms the winners on fresh seeds, and writes a report.

    Args:
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        seeds: Fresh seeds of the confirming round.
        on: local, ray (the cluster that RAY_ADDRESS names, else one started here) or ray://HOST:PORT.
        workers: Runs at the same time; by default one per core.
        timeout_s: Seconds after which a run is taken to hang; by default from the pace of the runs before it.
        out: Folder for traces, runs and the report; by default runs/NAME. A second call resumes there.
    """
    from pitprop import report as reports
    from pitprop.trials import diagnose as diagnose_

    reference = reference_of(recipe)
    folder = out or Path("runs") / folder_name(recipe)
    # What the recipe and Ray print goes to stderr: stdout is the report's alone.
    with progress_bar(quiet=json) as progress, contextlib.redirect_stdout(sys.stderr):
        diagnosis = diagnose_(
            reference,
            knobs=pairs(knob),
            seeds=seeds,
            on=on,
            workers=workers,
            timeout_s=timeout_s,
            folder=folder,
            progress=progress,
        )
    built = reports.build(folder)
    page = reports.write(built, folder / "report.html")
    if json:
        print(reports.to_json(built))
    else:
        reports.to_text(built, Console())
        say(f"\nThe report: [bold]{page}[/bold]")
    return FOUND if diagnosis.collapsed else 0
