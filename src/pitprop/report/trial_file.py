"""`trial.json`, read strictly: a report never shows half a diagnosis."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pitprop._errors import PitpropError
from pitprop.records import Comparison, Verdict
from pitprop.report.value import Conclusion, Diagnosis, Guard, Trial

NAME = "trial.json"

SCHEMA = 1
"""What was added to the file since its first version has a default here, so that older diagnoses stay readable."""


def read(folder: Path) -> Diagnosis | None:
    """The diagnosis in `folder`, or None where no `trial.json` lies there.

    Raises:
        PitpropError: The file is not JSON, or a part is missing, unknown or of the wrong kind; the message names it.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise malformed(path, str(error)) from error
    try:
        return _diagnosis(content)
    except Wrong as error:
        raise malformed(path, str(error)) from None


class Wrong(Exception):
    """A part of the file that is not what the contract says; becomes a PitpropError that knows the path."""


def _diagnosis(content: Any) -> Diagnosis:
    get = Part(content)
    if get("schema", int, 1) > SCHEMA:
        raise Wrong(f"its schema is {content['schema']}, and this version reads up to {SCHEMA}")
    said = Part(get("conclusion", Mapping), "conclusion.")
    return Diagnosis(
        plan=get("plan", Mapping),
        plan_hash=get("plan_hash", str),
        command=get.all("command", str),
        fork=get("fork", Mapping),
        trials=tuple(
            _trial(Part(item, f"comparisons[{i}].")) for i, item in enumerate(get.all("comparisons", Mapping))
        ),
        conclusion=Conclusion(
            statement=said("statement", str),
            cause=said("cause", str | None),
            remedy=said("remedy", str | None),
            exonerated=said.all("exonerated", str),
            next=said("next", str),
            mechanism=said("mechanism", str | None, None),
            inert=said.all("inert", str, []),
            symptoms=said.all("symptoms", str, []),
        ),
        guards=tuple(_guard(Part(item, f"guards[{i}].")) for i, item in enumerate(get.all("guards", Mapping, []))),
        references={
            name: {metric: number(value) for metric, value in metrics.items()}
            for name, metrics in get("references", Mapping, {}).items()
        },
        failed=get.all("failed", Mapping, []),
        restarted_runs=Part(get("timing", Mapping, {}), "timing.")("restarted_runs", int, 0),
        wall_s=number(get("wall_s")),
    )


def _trial(get: "Part") -> Trial:
    return Trial(round=get("round", str), comparison=comparison(get))


def comparison(get: "Part") -> Comparison:
    """A `Comparison` as JSON holds it."""
    numbers = tuple[float, ...]
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(Comparison):
        if field.type is float:
            fields[field.name] = number(get(field.name))
        elif field.type == numbers:
            fields[field.name] = tuple(map(number, get(field.name, list)))
        elif field.type == tuple[int, ...]:
            fields[field.name] = get.all(field.name, int)
        else:
            kind = str if field.type == Verdict else field.type
            fields[field.name] = get(field.name, kind, ... if field.default is dataclasses.MISSING else field.default)
    if fields["verdict"] not in get_args(Verdict):
        raise Wrong(f"`{get.prefix}verdict` is {fields['verdict']!r}, not one of {', '.join(get_args(Verdict))}")
    if not len(fields["seeds"]) == len(fields["control"]) == len(fields["treated"]):
        raise Wrong(f"`{get.prefix}seeds`, `control` and `treated` differ in length")
    return Comparison(**fields)


def _guard(get: "Part") -> Guard:
    return Guard(
        arm=get("arm", str),
        metric=get("metric", str),
        control=tuple(map(number, get("control", list))),
        treated=tuple(map(number, get("treated", list))),
        effect=number(get("effect")),
        low=number(get("low")),
        high=number(get("high")),
        seeds=get.all("seeds", int),
        confidence=number(get("confidence", default=0.95)),
        verdict=get("verdict", str, ""),
    )


class Part:
    """Typed access to one JSON object of the file, with errors that name the place."""

    def __init__(self, content: Any, prefix: str = ""):
        if not isinstance(content, Mapping):
            raise Wrong(f"`{prefix.rstrip('.') or 'the file'}` is {content!r:.60}")
        self.content, self.prefix = content, prefix

    def __call__(self, key: str, kind: Any = object, default: Any = ...) -> Any:
        if key not in self.content:
            if default is not ...:
                return default
            raise Wrong(f"`{self.prefix}{key}` is missing")
        value = self.content[key]
        if not isinstance(value, kind):
            raise Wrong(f"`{self.prefix}{key}` is {value!r:.60}")
        return value

    def all(self, key: str, kind: Any, default: Any = ...) -> tuple:
        """The list at `key`, every item of which is of one kind."""
        values = self(key, list, default)
        for i, value in enumerate(values):
            if not isinstance(value, kind):
                raise Wrong(f"`{self.prefix}{key}[{i}]` is {value!r:.60}")
        return tuple(values)


def number(value: Any) -> float:
    """A number, or the text that stands for one that is not finite."""
    # JSON has no NaN: an undefined number comes as a string.
    if isinstance(value, int | float) or value in ("nan", "inf", "-inf"):
        return float(value)
    raise Wrong(f"{value!r:.60} stands where a number belongs")


def malformed(path: Path, what: str) -> PitpropError:
    """The error for a `trial.json` that is not what the contract says."""
    return PitpropError(
        f"{path} cannot be read as the result of a diagnosis: {what}.",
        means="It was cut short, edited, or written by another version.",
        do="Run the diagnosis again, or move the file away to get a report of the trace alone.",
    )
