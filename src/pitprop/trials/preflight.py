"""The checks of `pitprop.checks`, asked of a recipe's freshly built training and its first batches."""

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pitprop._errors import PitpropError
from pitprop.checks import CHECKS, Subject
from pitprop.checks._check import ROOT
from pitprop.checks._forward import preserved
from pitprop.checks._run import run_all
from pitprop.records import RUN, Finding
from pitprop.trials import fork
from pitprop.trials.interventions._targets import is_jax, model_of, optimizers_of
from pitprop.trials.knobs import knobs_to_json, make_knobs
from pitprop.trials.load import load_recipe, raised_at
from pitprop.trials.run import build, evaluate

Place = tuple[Path, int | None]
"""A file and a line in it."""
NUM_BATCHES = 3
"""Batches that the checks see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks say of a recipe."""

    findings: list[Finding]
    place: Place
    """The recipe's file, and the line of its `build`."""
    places: dict[str, Place]
    """Site of a finding -> where the class of its module is defined, for classes of the user's own."""


def check_recipe(reference: str, knobs: Mapping[str, Any], seed: int, allow: Iterable[str] = ()) -> Checked:
    """Findings of every check on the recipe's training before its first step.

    Args:
        reference: `file.py:attr` or `package.module:attr` of a `Recipe`.
        knobs: Overrides of the knobs; text is read by the field's type.
        seed: Seed to build with.
        allow: What not to report: `"check"`, or `"check@site"`.

    Raises:
        PitpropError: The recipe cannot be loaded or built, or its step raises; or `allow` names no check.
    """
    recipe = load_recipe(reference)
    values = knobs_to_json(make_knobs(recipe, knobs))
    try:
        training, _ = build(recipe, values, seed, ())
        batches = tuple(islice(training.batches(0), NUM_BATCHES))
        jax_subject = _jax_subject(training, batches) if is_jax(training) else None
        if jax_subject is None:
            with _kept(training):
                training.step(batches[0])
    except PitpropError:
        raise
    except Exception as error:
        raise PitpropError(
            f"the recipe raised {type(error).__name__}: {error} (at {raised_at(error, _file(reference))})",
            means=f"With seed {seed} and knobs {values} it can't be built and make one step, so it can't be checked.",
            do="make `build(seed, knobs)` and one `step` run by themselves first.",
        ) from error

    place = _source(recipe.build) or (Path(reference.rpartition(":")[0]), None)
    if jax_subject is not None:
        from pitprop.checks._jax import run_jax

        return Checked(findings=run_jax(jax_subject, allow), place=place, places={})

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
        copies=_copies(training, model),
    )
    findings = run_all(CHECKS, subject, allow)
    sites = {finding.site for finding in findings} - {RUN}
    return Checked(findings=findings, place=place, places={s: p for s in sites if (p := _place_of(model, s))})


def _file(reference: str) -> str:
    """The recipe's file, as a traceback names it; empty for a module."""
    place = reference.rpartition(":")[0]
    return str(Path(place).resolve()) if place.endswith(".py") else ""


def _copies(training: Any, model: nn.Module) -> dict[str, nn.Module]:
    """Other modules among the attributes of `training`, and of the plain objects (an EMA's keeper) among these."""
    held = dict(vars(training))
    for name, keeper in vars(training).items():
        if not isinstance(keeper, nn.Module | torch.optim.Optimizer | type):
            held |= {f"{name}.{key}": part for key, part in getattr(keeper, "__dict__", {}).items()}
    return {name: part for name, part in held.items() if isinstance(part, nn.Module) and part is not model}


def _jax_subject(training: Any, batches: tuple[Any, ...]) -> Any:
    """The subject of a jax training, which makes one step first (a pure one: the training stays as it is)."""
    from pitprop.checks._jax import JaxSubject

    training.stepped(batches[0])
    return JaxSubject(step=training.pure_step, state=training.tree, tx=training.tx, batches=batches)


def found_before(training: Any) -> list[Finding]:
    """What the checks find wrong with a jax training before its first step; it stays as it is."""
    from pitprop.checks._jax import run_jax

    batches = tuple(islice(training.batches(0), NUM_BATCHES))
    return [finding for finding in run_jax(_jax_subject(training, batches)) if finding.severity != "note"]


def _place_of(model: nn.Module, site: str) -> Place | None:
    """Where the innermost module of the user's own around `site` is defined."""
    parts = site.split(".") if site != ROOT else []
    for end in range(len(parts), -1, -1):
        with contextlib.suppress(AttributeError):
            module = model.get_submodule(".".join(parts[:end]))
            if not type(module).__module__.startswith("torch."):
                return _source(type(module))
    return None


def _source(thing: Any) -> Place | None:
    try:
        return Path(inspect.getsourcefile(thing) or ""), inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):  # made at a prompt, or built in
        return None


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
