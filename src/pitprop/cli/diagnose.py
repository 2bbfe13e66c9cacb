"""`pitprop diagnose`: the main job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pitprop.cli._app import FOUND, Json, Knobs, On, Timeout, app
from pitprop.cli._changes import Changes
from pitprop.cli._recipes import folder_name, pairs, reference_of
from pitprop.cli._say import progress_bar, say

if TYPE_CHECKING:
    from pitprop.report import Report
    from pitprop.trials.interventions import Intervention

SEEDS, SCREEN_SEEDS = 5, 3
"""Seeds of the confirming and of the screening round."""

PAGE = "report.html"


@app.command
def diagnose(
    recipe: str,
    /,
    *,
    knob: Knobs = (),
    changes: Changes | None = None,
    seeds: int = SEEDS,
    screen_seeds: int = SCREEN_SEEDS,
    on: On = "local",
    workers: int | None = None,
    timeout_s: Timeout = None,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Find the cause of a collapse by controlled trials, and the remedy that works.

    Watches the recipe's run; where it collapses, forks it before the onset, runs candidate interventions on the same
    seeds and batches, confirms the winners on fresh seeds, and writes a report. Changes that you name are suspects too.

    Args:
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        seeds: Fresh seeds of the confirming round.
        screen_seeds: Seeds of the screening round.
        workers: Runs at the same time; by default one per core.
        out: Folder for traces, runs and the report; by default runs/NAME. A second call resumes there.
    """
    from pitprop import report as reports

    folder = out or Path("runs") / folder_name(recipe)
    collapsed, built = find_cause(
        reference_of(recipe),
        folder,
        pairs(knob),
        seeds,
        workers,
        screen_seeds=screen_seeds,
        suspects=(changes or Changes()).interventions(),
        on=on,
        timeout_s=timeout_s,
        quiet=json,
    )
    if json:
        print(reports.to_json(built))
    else:
        reports.to_text(built, Console())
        say(f"\nThe report: [bold]{folder / PAGE}[/bold]")
    return FOUND if collapsed else 0


def find_cause(
    reference: str,
    folder: Path,
    knobs: Mapping[str, str],
    seeds: int = SEEDS,
    workers: int | None = None,
    *,
    screen_seeds: int = SCREEN_SEEDS,
    suspects: "Sequence[Intervention]" = (),
    on: str = "local",
    timeout_s: float | None = None,
    quiet: bool,
) -> "tuple[bool, Report]":
    """Diagnose into `folder` behind a progress bar and write the page; whether it collapsed, and the report."""
    from pitprop import report as reports
    from pitprop.trials import diagnose as diagnose_

    with progress_bar(quiet=quiet) as progress:
        found = diagnose_(
            reference,
            knobs=knobs,
            seeds=seeds,
            screen_seeds=screen_seeds,
            suspects=suspects,
            on=on,
            workers=workers,
            timeout_s=timeout_s,
            folder=folder,
            progress=progress,
        )
    built = reports.build(folder)
    reports.write(built, folder / PAGE)
    return found.collapsed, built
