"""`pitprop trial`: change what you name, and see what each change does."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from pitprop._errors import PitpropError
from pitprop.cli._app import Json, Knobs, On, Timeout, app
from pitprop.cli._changes import Changes
from pitprop.cli._recipes import folder_name, pairs, reference_of
from pitprop.cli._say import print_json, progress_bar, say


@app.command
def trial(
    recipe: str,
    /,
    *,
    changes: Changes | None = None,
    factorial: Annotated[bool, Parameter(negative=())] = False,
    resolution: Literal[4, 5] | None = None,
    knob: Knobs = (),
    seeds: int = 8,
    metric: str | None = None,
    direction: Literal["higher", "lower"] | None = None,
    margin: float | None = None,
    horizon: int | None = None,
    fork_step: int = 0,
    guard: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    early_stop: bool = True,
    on: On = "local",
    workers: int | None = None,
    timeout_s: Timeout = None,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Change one thing at a time, or several in a design, on the same seeds and batches, and say what each does.

    Module paths may hold `*`, which stays between two dots.

    Args:
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        factorial: Run the changes in combination: main effects and two-way interactions.
        resolution: Of the factorial: the smallest fraction that has it; by default all combinations.
        seeds: Seeds of each arm, from 0 on; at least 2.
        metric: Metric that decides; by default the recipe's.
        direction: Direction in which the metric improves; to be said for one that is not the recipe's.
        margin: Difference that is too small to matter; by default the recipe's.
        horizon: Steps after the fork; by default to the end of the recipe's run.
        fork_step: Step at which the arms part.
        guard: NAME, NAME=higher or NAME=lower: another metric to report, with the direction that is good; repeatable.
            The recipe's are reported anyway.
        early_stop: Stop an arm as soon as it is clearly worse; all arms together still err at most 5 % of the time
            where differences are symmetric. Run all where an arm may be much better at few seeds, a bit worse at most.
        workers: Runs at the same time; by default one per core.
        out: Folder for runs and results; by default runs/NAME-trial. A second call resumes there.
    """
    from pitprop.trials import designs
    from pitprop.trials import trial as trial_

    changes = changes or Changes()
    tried = changes.interventions()
    if resolution and not factorial:
        raise PitpropError(f"--resolution {resolution} is of a factorial.", do="add --factorial.")
    reference = reference_of(recipe)
    given = {
        "--resolution": resolution,
        "--seeds": seeds,
        "--metric": metric,
        "--direction": direction,
        "--margin": margin,
        "--horizon": horizon,
        "--fork-step": fork_step or None,
        "--on": None if on == "local" else on,
        "--workers": workers,
        "--timeout-s": timeout_s,
        "--out": out,
    }
    command = ["pitprop", "trial", recipe, *changes.options()]
    command += [part for option in knob for part in ("--knob", option)]
    command += [part for option in guard for part in ("--guard", option)]
    command += ["--factorial"] if factorial else []
    command += [] if early_stop else ["--no-early-stop"]
    command += [part for name, value in given.items() if value is not None for part in (name, str(value))]
    with progress_bar(quiet=json) as progress:
        found = trial_(
            reference,
            designs.factorial(tried, resolution) if factorial else tried,
            seeds=seeds,
            metric=metric,
            higher_is_better=None if direction is None else direction == "higher",
            margin=margin,
            horizon=horizon,
            fork_step=fork_step,
            guards=guard,
            early_stop=early_stop,
            knobs=pairs(knob),
            on=on,
            workers=workers,
            timeout_s=timeout_s,
            folder=out or Path("runs") / f"{folder_name(recipe)}-trial",
            progress=progress,
            command=command,
        )
    if json:
        print_json(found.to_dict() | {"folder": str(found.folder)})
    else:
        Console().print(found)
        say(f"The report: [bold]pitprop report {found.folder}[/bold]")
    return 0
