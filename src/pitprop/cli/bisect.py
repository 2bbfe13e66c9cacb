"""`pitprop bisect`: which change between two configurations, or which commit between two revisions, is guilty."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from pitprop._errors import USAGE
from pitprop.cli._app import FOUND, Json, On, Timeout, app
from pitprop.cli._recipes import folder_name, reference_of
from pitprop.cli._say import print_json, progress_bar, say

Patterns = Annotated[
    tuple[str, ...],
    Parameter(
        negative=(), help="Instead of --good: which of these modules, once active, is guilty; * stays in a name."
    ),
]


@app.command
def bisect(
    recipe: str,
    /,
    *,
    good: str | None = None,
    bad: str | None = None,
    by_module: Patterns = (),
    metric: str | None = None,
    budget: int = 300,
    on: On = "local",
    workers: int | None = None,
    timeout_s: Timeout = None,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Find the smallest set of changes that brings a collapse and the smallest that cures it, or the first bad commit.

    Runs the good and the bad end, then sets of the changes (or commits) between them, each at as many seeds as it
    takes to be sure; confirms what it finds on fresh seeds. Commits run in worktrees; your checkout is not touched.
    Exit code 2: bad is better than good, so the two were swapped, perhaps.

    Args:
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        good: TOML file with the knobs of a run that works (what it leaves out has its default), or a git revision.
        bad: TOML file with the knobs of a run that collapses, or a git revision.
        metric: What tells a collapse; by default the recipe's metric.
        budget: Runs in all, at most.
        workers: Runs at the same time; by default one per core.
        out: Folder for the runs and the answer; by default runs/NAME-bisect. A second call resumes there.
    """
    from pitprop import report as reports
    from pitprop.trials import bisect as bisect_

    reference = reference_of(recipe)
    folder = out or Path("runs") / f"{folder_name(recipe)}-bisect"
    with progress_bar(quiet=json) as progress:
        found = bisect_(
            reference,
            good,
            bad,
            by_module=by_module,
            metric=metric,
            budget=budget,
            on=on,
            workers=workers,
            timeout_s=timeout_s,
            folder=folder,
            progress=progress,
        )
    built = reports.build(folder)
    page = reports.write(built, folder / "report.html")
    if json:
        print_json(found.to_dict())
    else:
        reports.to_text(built, Console())
        say(f"\nThe report: [bold]{page}[/bold]")
    if getattr(found, "swapped", False):
        return USAGE
    return FOUND if found.collapsed else 0
