"""Reference solutions of a recipe: their metrics, computed once per diagnosis, in a worker."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.execute import read_json, write_json
from pitprop.trials.run import RunSpec, cached_recipe, number, to_json_number

References = dict[str, dict[str, float | str]]
"""Name -> metric -> value, as JSON numbers."""


def references_of(reference: str) -> References:
    """What the recipe's `references()` returns, checked; nothing where it has none."""
    make = cached_recipe(reference).references
    made: Any = make() if make else {}
    if not isinstance(made, Mapping) or not all(isinstance(metrics, Mapping) for metrics in made.values()):
        raise PitpropError(
            f"`references` returned {made!r:.80}, not metrics by name.",
            do='return a dict of dicts, for example `{"always the mean": {"mse": 0.21}}`.',
        )
    return {
        str(name): {
            str(metric): to_json_number(number(value, f"{name}.{metric}", "references"))
            for metric, value in metrics.items()
        }
        for name, metrics in made.items()
    }


def keep_references(folder: Path, spec: RunSpec, references: References) -> None:
    """Write `folder/references.json`, so that a resumed diagnosis need not compute them again."""
    write_json(folder / "references.json", {"source": spec.source, "references": references})


def known_references(folder: Path, spec: RunSpec) -> References | None:
    """What `keep_references` wrote for these sources, if anything."""
    data = read_json(folder / "references.json")
    return data["references"] if data is not None and data["source"] == spec.source else None
