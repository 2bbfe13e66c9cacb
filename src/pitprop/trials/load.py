"""From a reference (`file.py:attr` or `package.module:attr`) to a checked `Recipe`; one clear error per way to fail."""

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from pitprop._errors import PitpropError, nearest
from pitprop.trials.recipe import Recipe

READ = "docs/verdicts.md and the docstring of pitprop.trials.recipe"


def load_recipe(reference: str) -> Recipe:
    """The recipe that `reference` names.

    Args:
        reference: `path/to/file.py:attr` or `package.module:attr`. A file is executed anew at each call, with its
            folder on `sys.path`, as `python file.py` would.

    Raises:
        PitpropError: No such file or module, the file raises, no such attribute, not a `Recipe`, or knobs that are not
            a dataclass with a default for every field.
    """
    return _checked(load_attribute(reference, Recipe), reference)


def load_attribute(reference: str, kind: type = object) -> Any:
    """The object at `reference`, whatever it is; where there is none, those of `kind` are suggested."""
    place, colon, attribute = reference.rpartition(":")
    if not colon or not place or not attribute:
        raise PitpropError(
            f"`{reference}` is not a reference.",
            means="A reference names a file or a module, and an attribute of it.",
            do="write it as `file.py:recipe` or `package.module:recipe`.",
        )
    module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    if not hasattr(module, attribute):
        named = [name for name in vars(module) if not name.startswith("_")]
        names = [name for name in named if isinstance(vars(module)[name], kind)] or named
        raise PitpropError(f"`{place}` has no attribute `{attribute}`: {nearest(attribute, names)}")
    return getattr(module, attribute)


def _checked(recipe: Any, reference: str) -> Recipe:
    """`recipe` itself, when it is a `Recipe` that a trial can work with."""
    if not isinstance(recipe, Recipe):
        raise PitpropError(
            f"`{reference}` is a {type(recipe).__name__}, not a Recipe.",
            do="bind `pitprop.trials.Recipe(build=..., knobs=..., metric=...)` to that name.",
            read=READ,
        )
    knobs = recipe.knobs
    if not (isinstance(knobs, type) and dataclasses.is_dataclass(knobs)):
        raise PitpropError(
            f"The knobs of `{reference}` are {knobs!r}, not a dataclass.",
            do="declare `@dataclass(frozen=True) class Knobs` with a default for every field.",
            read=READ,
        )
    bare = [
        field.name
        for field in dataclasses.fields(knobs)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if bare:
        raise PitpropError(
            f"The knobs of `{reference}` have no default for: {', '.join(bare)}.",
            means="The defaults are the control arm of every trial.",
            do="give each field a default.",
            read=READ,
        )
    return recipe


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else f"`{path.parent}` holds no Python file"
        raise PitpropError(f"There is no file `{path}`: {hint}")
    # A name of its own per path: two files called train.py must not meet in sys.modules.
    name = f"pitprop_recipe_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PitpropError(f"`{path}` cannot be loaded as Python.")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except PitpropError:
        raise
    except Exception as error:
        del sys.modules[name]
        raise _raised(str(path), error) from error
    return module


def _from_name(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` would
    try:
        return importlib.import_module(name)
    except PitpropError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise PitpropError(
                f"There is no module `{error.name}` (looked for `{name}` from `{Path.cwd()}`).",
                do="run from the folder that holds it, or give a file: `path/to/file.py:recipe`.",
            ) from error
        if name.startswith("pitprop."):
            raise  # a case whose extra is not installed; the command line says which
        raise _raised(name, error) from error
    except Exception as error:
        raise _raised(name, error) from error


def _raised(place: str, error: Exception) -> PitpropError:
    """The error of a recipe that raises on import, at the line of the user's that raised it."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    else:
        where = raised_at(error, place)
    return PitpropError(
        f"`{place}` raised while it was loaded: {type(error).__name__}: {error} (at {where}).",
        means="The recipe never came into being; nothing was run.",
        do="run the file with python by itself until it loads.",
    )


def raised_at(error: Exception, place: str) -> str:
    """FILE:LINE where `error` was raised: the last line of the file `place` on its way, else the very last."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    own = [f for f in frames if f.filename == place] or frames
    return f"{own[-1].filename}:{own[-1].lineno}" if own else place
