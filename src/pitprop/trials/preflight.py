"""The checks of `pitprop.checks`, asked of a recipe's freshly built training and its first batches."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from pitprop._errors import PitpropError
from pitprop.checks import CHECKS, Subject
from pitprop.checks._forward import preserved
from pitprop.checks._run import run_all
from pitprop.records import Finding
from pitprop.trials import fork
from pitprop.trials.interventions._targets import model_of, optimizers_of
from pitprop.trials.knobs import knobs_to_json, make_knobs
from pitprop.trials.load import load_recipe
from pitprop.trials.run import build, evaluate

NUM_BATCHES = 3
"""Batches that the checks see."""


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
        source = iter(training.batches(0))
        batches = tuple(next(source) for _ in range(NUM_BATCHES))
        with _kept(training):
            training.step(batches[0])
    except PitpropError:
        raise
    except Exception as error:
        raise PitpropError(
            f"the recipe raised {type(error).__name__}: {error}",
            means=f"With seed {seed} and knobs {values} it can't be built and make one step, so it can't be checked.",
            do="make `build(seed, knobs)` and one `step` run by themselves first.",
        ) from error

    def whole_step(_model: Any, batch: Any) -> Any:
        # How a batch enters the model is the recipe's business, so the step itself is the pass.
        with _restored(training):
            return training.step(batch)

    model = model_of(training)
    subject = Subject(
        model=model,
        batches=batches,
        loss_fn=whole_step,
        optimizers=tuple(optimizers_of(training).values()),
        step=training.step,
        kept=lambda: _kept(training),
        evaluate=lambda: evaluate(training, recipe)[0],
        metric=recipe.metric,
        copies={
            name: part for name, part in vars(training).items() if isinstance(part, nn.Module) and part is not model
        },
    )
    return run_all(CHECKS, subject)


@contextlib.contextmanager
def _kept(training: Any) -> Iterator[None]:
    """Whatever is stepped within, the training is left as it was, gradients and flags of its model too."""
    with preserved(model_of(training)), _restored(training):
        yield


@contextlib.contextmanager
def _restored(training: Any) -> Iterator[None]:
    """Like `_kept`, but the gradients of a step can be read afterwards."""
    before = fork.capture(training, 0)
    try:
        yield
    finally:
        fork.restore(training, before)
