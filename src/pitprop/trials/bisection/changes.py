"""What a bisection searches over: named changes that lead from good to bad, and the run of any subset of them."""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.bisection.oracle import Subset
from pitprop.trials.executors import Executor, Task
from pitprop.trials.interventions import Ablate, Intervention, Knob
from pitprop.trials.interventions._targets import model_of, modules_at
from pitprop.trials.knobs import knobs_to_json, make_knobs
from pitprop.trials.recipe import Recipe
from pitprop.trials.run import RunSpec, build, cached_recipe

Configuration = Mapping[str, Any] | str | Path | None
"""Values of knobs, or a TOML file with them; what is left out has its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Named changes, and how to run a subset of them."""

    base: RunSpec
    """The run without interventions."""
    interventions: Mapping[str, Intervention]
    """Change -> what makes it; with `undo`, what takes it back."""
    values: Mapping[str, tuple[str, str]]
    """Change -> what is so in good, and in bad, in words."""
    undo: bool = False
    """Whether `base` is the bad end, so that the changes left out are the ones that need an intervention."""

    def spec(self, subset: Subset, seed: int) -> RunSpec:
        """The run of good with the changes in `subset`."""
        acting = [change for name, change in self.interventions.items() if (name in subset) != self.undo]
        return dataclasses.replace(self.base, interventions=tuple(acting), seed=seed)

    def words(self, start: Subset, end: Subset) -> str:
        """What changes from one subset to another."""
        made = [f"{n}: {old} -> {new}" for n, (old, new) in self.values.items() if n in end - start]
        return "; ".join(made + [f"{n}: {new} -> {old}" for n, (old, new) in self.values.items() if n in start - end])


def knob_changes(recipe: Recipe, base: RunSpec, good: Configuration, bad: Configuration) -> Changes:
    """The knobs in which `good` and `bad` differ; `base` gets the knobs of good.

    Raises:
        PitpropError: An unreadable file, an unknown knob, a value that the knob does not take, or no difference.
    """
    before, after = make_knobs(recipe, read_knobs(good)), make_knobs(recipe, read_knobs(bad))
    names = [field.name for field in dataclasses.fields(before)]
    values = {name: (getattr(before, name), getattr(after, name)) for name in names}
    differing = {name: pair for name, pair in values.items() if pair[0] != pair[1]}
    if not differing:
        raise PitpropError(
            "Good and bad are the same configuration: no knob differs.",
            do="name at least one knob in which they differ; a knob that is left out has the recipe's default.",
        )
    knobs_to_json(after)  # raises for values that cannot be written down
    return Changes(
        base=dataclasses.replace(base, knobs=knobs_to_json(before)),
        interventions={name: Knob(name, value) for name, (_, value) in differing.items()},
        values={name: (repr(old), repr(new)) for name, (old, new) in differing.items()},
    )


def module_changes(
    recipe: Recipe, base: RunSpec, patterns: Sequence[str], bad: Configuration, executor: Executor
) -> Changes:
    """The modules at `patterns`: good is the model with all of them ablated, a change is to leave one of them active.

    Raises:
        PitpropError: A pattern that matches nothing, or modules inside one another.
    """
    base = dataclasses.replace(base, knobs=knobs_to_json(make_knobs(recipe, read_knobs(bad))))
    ((_, outcome),) = executor.run([Task(function=_paths, arguments=(base, tuple(patterns)))])
    if outcome.error is not None:
        raise PitpropError(outcome.error)
    paths = list(outcome.value)
    inner = next(((a, b) for a in paths for b in paths if b.startswith(f"{a}.")), None)
    if inner:
        raise PitpropError(
            f"`{inner[1]}` is inside of `{inner[0]}`.",
            means="A module says nothing once what holds it is ablated, so the two are no separate changes.",
            do="give patterns of one level: `*` stays between two dots.",
        )
    return Changes(
        base=base,
        interventions={path: Ablate(path) for path in paths},
        values=dict.fromkeys(paths, ("ablated", "active")),
        undo=True,
    )


def read_knobs(given: Configuration) -> dict[str, Any]:
    """Knob values from a mapping or a TOML file of `name = value` lines."""
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    try:
        values = tomllib.loads(Path(given).read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise PitpropError(f"The file `{given}` cannot be read: {reason}.", do="give a TOML file of knobs.") from error
    except tomllib.TOMLDecodeError as error:
        raise PitpropError(
            f"The file `{given}` is not TOML: {error}.",
            do='write one knob per line, as in `lr = 0.1` or `pool = "none"`.',
        ) from error
    tables = [name for name, value in values.items() if isinstance(value, dict)]
    if tables:
        raise PitpropError(
            f"The file `{given}` has a table `[{tables[0]}]`.",
            means="Knobs are the fields of one dataclass; they have no sections.",
            do="write the knobs at the top of the file, without a table.",
        )
    return values


def _paths(spec: RunSpec, patterns: tuple[str, ...]) -> list[str]:
    """Module paths that match, in the model's order."""
    training, _ = build(cached_recipe(spec.recipe), spec.knobs, spec.seed, ())
    found = {path for pattern in patterns for path in modules_at(training, pattern)}
    return [path for path, _ in model_of(training).named_modules() if path in found]
