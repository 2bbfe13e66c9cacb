"""How a user names a recipe and its knobs on the command line."""

from collections.abc import Sequence
from pathlib import Path

from pitprop._errors import PitpropError, nearest
from pitprop.cases import CASES


def reference_of(recipe: str) -> str:
    """A recipe reference from what the user typed: a case's name stands for its recipe."""
    if ":" in recipe:
        return recipe
    for known in CASES:
        if known.name == recipe:
            return known.recipe
    if recipe.endswith(".py"):
        raise PitpropError(
            f"`{recipe}` names a file, not a recipe in it", do=f"{recipe}:recipe, where `recipe` is its name"
        )
    raise PitpropError(
        f"`{recipe}` is neither FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE nor a case",
        do=nearest(recipe, [known.name for known in CASES]),
        read="docs/diagnose.md",
    )


def folder_name(recipe: str) -> str:
    """Folder name of a diagnosis: the case's, or the recipe's file."""
    return Path(recipe.rpartition(":")[0] or recipe).stem if recipe.count(":") else recipe


def pairs(options: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping."""
    for option in options:
        if "=" not in option:
            raise PitpropError(f"--knob {option} has no value", do="--knob NAME=VALUE")
    return dict(option.split("=", 1) for option in options)
