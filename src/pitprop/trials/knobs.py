"""Knobs: from text or JSON to a checked instance of a recipe's dataclass, and back; and what else they could be."""

import contextlib
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from pitprop._errors import PitpropError, nearest
from pitprop.trials.recipe import Recipe

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def make_knobs(recipe: Recipe, overrides: Mapping[str, Any] | None = None) -> Any:
    """Instance of `recipe.knobs` with `overrides` in place; strings are read by the field's type.

    Raises:
        PitpropError: An unknown name (with the nearest ones), or a value that the field's type does not allow.
    """
    hints = typing.get_type_hints(recipe.knobs)
    names = [field.name for field in dataclasses.fields(recipe.knobs)]
    values = {}
    for name, value in (overrides or {}).items():
        if name not in names:
            raise PitpropError(f"The recipe has no knob `{name}`: {nearest(name, names)}")
        values[name] = _read(name, value, hints.get(name, Any))
    return recipe.knobs(**values)


def knobs_to_json(knobs: Any) -> dict[str, Any]:
    """All fields of `knobs` as JSON values (tuples become lists; `make_knobs` turns them back)."""
    values = {field.name: getattr(knobs, field.name) for field in dataclasses.fields(knobs)}
    for name, value in values.items():
        flat = value if isinstance(value, (tuple, list)) else (value,)
        if not all(item is None or isinstance(item, (bool, int, float, str)) for item in flat):
            raise PitpropError(
                f"The knob `{name}` holds a {type(value).__name__}: {value!r}.",
                means="A plan is written down and hashed, and its knobs travel to other processes.",
                do="make it a number, a string, a bool, or a tuple of these, and build the object inside `build`.",
            )
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def alternatives(recipe: Recipe, knobs: Any) -> list[tuple[str, Any]]:
    """Every other value that a `Literal` or `bool` field declares, as `(name, value)`, in the fields' order."""
    hints = typing.get_type_hints(recipe.knobs)
    found = []
    for field in dataclasses.fields(recipe.knobs):
        hint = hints.get(field.name)
        current = getattr(knobs, field.name)
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else (False, True) if hint is bool else ()
        found += [(field.name, choice) for choice in choices if choice != current]
    return found


def _read(name: str, value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        if isinstance(value, str):
            for choice in choices:
                if value == str(choice):
                    return choice
        raise _wrong(name, value, nearest(str(value), [str(choice) for choice in choices]))
    if origin in (typing.Union, types.UnionType):
        members = typing.get_args(hint)
        if type(None) in members and (value is None or value in ("none", "None")):
            return None
        for member in (m for m in members if m is not type(None)):
            try:
                return _read(name, value, member)
            except PitpropError:
                continue
        raise _wrong(name, value, f"it takes {hint}")
    if hint is bool:
        return _read_bool(name, value)
    if hint in (int, float):
        return _read_number(name, value, hint)
    if hint is str and not isinstance(value, str):
        raise _wrong(name, value, "it takes text")
    if origin is tuple or hint is tuple:
        if isinstance(value, str):
            with contextlib.suppress(json.JSONDecodeError):
                value = json.loads(value)
        if isinstance(value, (list, tuple)):
            return tuple(value)
        raise _wrong(name, value, "it takes a tuple; write it as JSON: [1, 2]")
    return value


def _read_bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in TRUE + FALSE:
        return value.lower() in TRUE
    raise _wrong(name, value, "it takes true or false")


def _read_number(name: str, value: Any, hint: type) -> int | float:
    wanted = "a whole number" if hint is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _wrong(name, value, f"it takes {wanted}")
    try:
        number = hint(value)
    except ValueError:
        raise _wrong(name, value, f"it takes {wanted}") from None
    if hint is int and isinstance(value, float) and number != value:
        raise _wrong(name, value, f"it takes {wanted}")
    return number


def _wrong(name: str, value: Any, hint: str) -> PitpropError:
    return PitpropError(f"The knob `{name}` cannot be {value!r}: {hint}")
