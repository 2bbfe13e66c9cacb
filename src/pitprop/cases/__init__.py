"""The cases: whole systems that collapse, each with its cause, its remedies and every claim of its post-mortem judged.

This file imports no framework: what a case needs is named by a string until it is used.
"""

from dataclasses import dataclass

from pitprop._errors import PitpropError, nearest
from pitprop.cases.clip_anomaly.options import Options as ClipOptions
from pitprop.cases.grid_solver.options import Options as GridOptions
from pitprop.cases.model_merging.options import Options as MergingOptions
from pitprop.cases.set_diffusion.options import Options as SetsOptions
from pitprop.cases.timestep_attack.options import Options as AttackOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One system, by reference."""

    name: str
    """Name on the command line and of the folder."""
    title: str
    """What collapses, in one line."""
    recipe: str
    """Reference `package.module:attribute` of its recipe, for `diagnose`."""
    run: str
    """Reference of `run(folder, options, *, claims, progress) -> CaseResult`, for `pitprop case`."""
    options: type
    """Frozen dataclass of what may be chosen on the command line; every field has a default and a sentence."""
    diagnose: bool = True
    """Whether `pitprop case` goes on to the diagnosis unasked: it does where both take a few minutes together."""


CASES: tuple[Case, ...] = (
    Case(
        name="grid_solver",
        title="an ARC solver whose new modules bring background everywhere (seed 2)",
        recipe="pitprop.cases.grid_solver.recipe:recipe",
        run="pitprop.cases.grid_solver.run:run",
        options=GridOptions,
    ),
    Case(
        name="model_merging",
        title="a transformer that merges two CNNs gives the same CNN whatever goes in (seed 4)",
        recipe="pitprop.cases.model_merging.recipe:recipe",
        run="pitprop.cases.model_merging.run:run",
        options=MergingOptions,
    ),
    Case(
        name="clip_anomaly",
        title="CLIP with adapters finds defects until a random cross-attention is put in (seed 1)",
        recipe="pitprop.cases.clip_anomaly.recipe:recipe",
        run="pitprop.cases.clip_anomaly.run:run",
        options=ClipOptions,
        diagnose=False,
    ),
    Case(
        name="timestep_attack",
        title="learnable timestep weights of an attack on diffusion latents go to one timestep (seed 0)",
        recipe="pitprop.cases.timestep_attack.recipe:recipe",
        run="pitprop.cases.timestep_attack.run:run",
        options=AttackOptions,
        diagnose=False,
    ),
    Case(
        name="set_diffusion",
        title="a diffusion that draws from a set of images ignores the set (seed 3, in jax)",
        recipe="pitprop.cases.set_diffusion.recipe:recipe",
        run="pitprop.cases.set_diffusion.run:run",
        options=SetsOptions,
    ),
)


def by_name(name: str) -> Case:
    """The case called `name`; raises `PitpropError` with the nearest names."""
    for case in CASES:
        if case.name == name:
            return case
    raise PitpropError(f"There is no case `{name}`: {nearest(name, [case.name for case in CASES])}")
