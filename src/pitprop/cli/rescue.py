"""`pitprop rescue`: from a collapsed checkpoint to one that trains again."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pitprop.cli._app import FOUND, Json, Knobs, On, Timeout, app
from pitprop.cli._changes import Changes
from pitprop.cli._recipes import pairs, reference_of
from pitprop.cli._say import print_json, progress_bar, say

if TYPE_CHECKING:
    from pitprop.trials import Rescue

PAGE = "report.html"


@app.command
def rescue(
    checkpoint: Path,
    recipe: str,
    /,
    *,
    run: Path | None = None,
    knob: Knobs = (),
    changes: Changes | None = None,
    seeds: int = 5,
    screen_seeds: int = 3,
    budget: int = 300,
    on: On = "local",
    workers: int | None = None,
    timeout_s: Timeout = None,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Bring a collapsed checkpoint back, by controlled trials, and write the state that this leads to.

    Tries rolling back to the last good snapshot, remedies, a fresh optimizer and new weights for the offending module
    in place, then rolling back with the best of them, each against going on as it is; confirms the winner on fresh
    seeds. Changes that you name are tried as well. The original is never touched. Exit code 1: nothing was confirmed.

    Args:
        checkpoint: Run folder with snapshots, or a checkpoint (safetensors, or weights that need no code to load).
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        run: Run folder that the checkpoint comes from, for its findings and its last good snapshot.
        seeds: Fresh seeds of the confirming round.
        screen_seeds: Seeds of the screening round.
        budget: Runs in all, at most.
        workers: Runs at the same time; by default one per core.
        out: Folder for runs, report and the new checkpoint; by default runs/NAME-rescue. A second call resumes there.
    """
    from pitprop import report as reports
    from pitprop.trials import rescue as rescue_

    folder = out or Path("runs") / f"{checkpoint.stem}-rescue"
    with progress_bar(quiet=json) as progress:
        result = rescue_(
            checkpoint,
            reference_of(recipe),
            run=run,
            knobs=pairs(knob),
            seeds=seeds,
            screen_seeds=screen_seeds,
            suspects=(changes or Changes()).interventions(),
            budget=budget,
            on=on,
            workers=workers,
            timeout_s=timeout_s,
            folder=folder,
            progress=progress,
        )
    built = reports.build(folder)
    reports.write(built, folder / PAGE)
    if json:
        print_json(_as_dict(result))
    else:
        reports.to_text(built, Console())
        say(f"\nThe report: [bold]{folder / PAGE}[/bold]")
    return FOUND if result.collapsed and result.checkpoint is None else 0


def _as_dict(result: "Rescue") -> dict:
    return {
        "collapsed": result.collapsed,
        "checkpoint": None if result.checkpoint is None else str(result.checkpoint),
        "conclusion": dataclasses.asdict(result.conclusion),
        "findings": [dataclasses.asdict(finding) for finding in result.findings],
        "started_from": {
            "collapsed": result.origin.collapsed.path,
            "last_good": result.origin.good.path if result.origin.good else None,
        },
        "screen": [dataclasses.asdict(c) for c in result.screen],
        "confirm": [dataclasses.asdict(c) for c in result.confirm],
        "failed": list(result.failed),
        "folder": str(result.folder),
    }
