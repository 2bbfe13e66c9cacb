"""From a `Recipe` in hand to its reference: what a spawned worker, or another machine, can load it by."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from pitprop._errors import PitpropError
from pitprop.trials.recipe import Recipe


def reference_to(recipe: Recipe | str) -> str:
    """`recipe` itself where it is a reference (a file's path made absolute), otherwise the place where it is bound.

    Raises:
        PitpropError: The recipe is bound to no name of a module that another process can import.
    """
    if isinstance(recipe, str):
        place, _, attribute = recipe.rpartition(":")
        return f"{Path(place).resolve()}:{attribute}" if place.endswith(".py") else recipe
    for module in _modules(recipe):
        for name, value in vars(module).items():
            if value is recipe:
                return f"{_place(module)}:{name}"
    raise PitpropError(
        f"The recipe ({recipe!r:.60}) cannot be found by another process.",
        means="The runs of a trial are made in processes of their own, which import the recipe anew. This one is "
        "no module's attribute, or was defined in a notebook or at a prompt.",
        do="bind it to a name at the top of a Python file, and give that object or `file.py:name`.",
    )


def _modules(recipe: Recipe) -> Iterator[ModuleType]:
    """Modules that another process can import, the recipe's own first."""
    own = [getattr(part, "__module__", "") for part in (recipe.build, recipe.knobs)]
    for name in dict.fromkeys([*own, *sys.modules]):
        module = sys.modules.get(name)
        if isinstance(module, ModuleType) and _place(module):
            yield module


def _place(module: ModuleType) -> str:
    """How another process loads `module`; empty where it cannot."""
    file, spec = getattr(module, "__file__", None) or "", getattr(module, "__spec__", None)
    if spec is not None and not spec.name.startswith("pitprop_recipe_"):
        return spec.name  # of `python -m package.module` as well
    # A script, or a file that was loaded by reference, is imported under its name by nobody else.
    return str(Path(file).resolve()) if file.endswith(".py") and Path(file).is_file() else ""
