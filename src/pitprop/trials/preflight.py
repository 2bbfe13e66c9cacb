"""The checks of `pitprop.checks`, asked of a recipe's freshly built training and its first batch."""

from collections.abc import Mapping
from typing import Any

import torch

from pitprop._errors import PitpropError
from pitprop.checks import run_checks
from pitprop.records import Finding
from pitprop.trials import fork
from pitprop.trials.interventions._targets import model_of, optimizers_of
from pitprop.trials.knobs import knobs_to_json, make_knobs
from pitprop.trials.load import load_recipe
from pitprop.trials.run import build


def check_recipe(reference: str, knobs: Mapping[str, Any], seed: int) -> list[Finding]:
    """Findings of every check on the recipe's model before its first step.

    Args:
        reference: `file.py:attr` or `package.module:attr` of a `Recipe`.
        knobs: Overrides of the knobs; text is read by the field's type.
        seed: Seed to build with.

    Raises:
        PitpropError: The recipe cannot be loaded or built, or its step raises.
    """
    recipe = load_recipe(reference)
    values = knobs_to_json(make_knobs(recipe, knobs))
    try:
        training, _ = build(recipe, values, seed, ())
        batch = next(iter(training.batches(0)))
        untouched = fork.capture(training, 0)
        training.step(batch)
        fork.restore(training, untouched)
    except PitpropError:
        raise
    except Exception as error:
        raise PitpropError(
            f"the recipe raised {type(error).__name__}: {error}",
            means=f"With seed {seed} and knobs {values} it can't be built and make one step, so it can't be checked.",
            do="make `build(seed, knobs)` and one `step` run by themselves first.",
        ) from error

    def whole_step(_model: Any, batch: Any) -> Any:
        # How a batch enters the model is the recipe's business, so the step itself is the forward pass.
        try:
            with torch.enable_grad():
                return training.step(batch)
        finally:
            fork.restore(training, untouched)

    optimizers = list(optimizers_of(training).values())
    return run_checks(model_of(training), batch, optimizer=optimizers, loss_fn=whole_step)
