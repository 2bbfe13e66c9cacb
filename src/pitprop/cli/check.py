"""The verb that looks at a model before training."""

import warnings

from pitprop.cli._app import Allow, Json, Knobs, app
from pitprop.cli._findings import Format, exit_code, show
from pitprop.cli._recipes import pairs, reference_of
from pitprop.cli._say import progress_bar, say
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
    # What a recipe prints is not part of the answer, and neither is what it warns of.
    with progress_bar(quiet=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        checked = check_recipe(reference_of(recipe), pairs(knob), seed, allow)
    show(checked.findings, form, {"recipe": recipe}, checked.places, checked.place)
    if form == "text" and all(finding.severity == "note" for finding in checked.findings):
        say("Nothing wrong was found.")
    return exit_code(checked.findings, fail_on)
