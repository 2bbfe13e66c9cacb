"""`trial.json`, read strictly: a report never shows half a diagnosis."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pitprop._errors import PitpropError
from pitprop.records import Comparison, Verdict
from pitprop.report.value import Conclusion, Diagnosis, Trial

NAME = "trial.json"


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
        raise _malformed(path, str(error)) from error
    try:
        return _diagnosis(content)
    except _Wrong as error:
        raise _malformed(path, str(error)) from None


class _Wrong(Exception):
    """A part of the file that is not what the contract says; becomes a PitpropError that knows the path."""


def _diagnosis(content) -> Diagnosis:
    content = _of(content, Mapping, "the file")
    conclusion = _of(_part(content, "conclusion"), Mapping, "conclusion")
    trials = [_trial(item, f"comparisons[{i}]") for i, item in enumerate(_of(_part(content, "comparisons"), list, "it"))]
    return Diagnosis(
        plan=_of(_part(content, "plan"), Mapping, "plan"),
        plan_hash=_of(_part(content, "plan_hash"), str, "plan_hash"),
        command=_strings(_part(content, "command"), "command"),
        fork=_of(_part(content, "fork"), Mapping, "fork"),
        trials=tuple(trials),
        conclusion=Conclusion(
            statement=_of(_part(conclusion, "statement", "conclusion."), str, "conclusion.statement"),
            cause=_of(_part(conclusion, "cause", "conclusion."), str | None, "conclusion.cause"),
            remedy=_of(_part(conclusion, "remedy", "conclusion."), str | None, "conclusion.remedy"),
            exonerated=_strings(_part(conclusion, "exonerated", "conclusion."), "conclusion.exonerated"),
            next=_of(_part(conclusion, "next", "conclusion."), str, "conclusion.next"),
        ),
        wall_s=_number(_part(content, "wall_s"), "wall_s"),
    )


def _trial(item, where: str) -> Trial:
    values = dict(_of(item, Mapping, where))
    round_ = _of(values.pop("round", None), str, f"{where}.round")
    read_field = {
        str: lambda v, w: _of(v, str, w),
        bool: lambda v, w: _of(v, bool, w),
        int: lambda v, w: int(_number(v, w)),
        float: _number,
        tuple[int, ...]: lambda v, w: tuple(int(x) for x in _numbers(v, w)),
        tuple[float, ...]: lambda v, w: _numbers(v, w),
        Verdict: _verdict,
    }
    fields: dict[Any, Any] = {
        f.name: read_field[f.type](_part(values, f.name, f"{where}."), f"{where}.{f.name}")  # type: ignore[index]
        for f in dataclasses.fields(Comparison)
    }
    if not len(fields["seeds"]) == len(fields["control"]) == len(fields["treated"]):
        raise _Wrong(f"`{where}`: seeds, control and treated differ in length")
    return Trial(round=round_, comparison=Comparison(**fields))


def _part(mapping: Mapping, key: str, prefix: str = ""):
    if key not in mapping:
        raise _Wrong(f"`{prefix}{key}` is missing")
    return mapping[key]


def _of(value, kind, where: str):
    if not isinstance(value, kind):
        raise _Wrong(f"`{where}` is {value!r:.60}")
    return value


def _number(value, where: str) -> float:
    # JSON has no NaN: it comes as a string, as null, or as the literal that Python's own writer makes.
    if value is None or (isinstance(value, str) and value in ("nan", "inf", "-inf")):
        return float(value or "nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"`{where}` is {value!r:.60}, not a number")
    return float(value)


def _numbers(value, where: str) -> tuple[float, ...]:
    return tuple(_number(x, f"{where}[{i}]") for i, x in enumerate(_of(value, list, where)))


def _strings(value, where: str) -> tuple[str, ...]:
    return tuple(_of(x, str, f"{where}[{i}]") for i, x in enumerate(_of(value, list, where)))


def _verdict(value, where: str) -> Verdict:
    if value not in get_args(Verdict):
        raise _Wrong(f"`{where}` is {value!r:.60}, not one of {', '.join(get_args(Verdict))}")
    return value


def _malformed(path: Path, what: str) -> PitpropError:
    return PitpropError(
        f"{path} cannot be read as the result of a diagnosis: {what}.",
        means="It was cut short, edited, or written by another version.",
        do="Run the diagnosis again, or move the file away to get a report of the trace alone.",
    )
