"""The report as JSON for programs, in a schema that only grows.

JSON has no NaN: an undefined or infinite number is the string `"nan"`, `"inf"` or `"-inf"`; `null` means "not measured"
or "not known". Series are summarised; their points are in the trace (`pitprop.trace.export_parquet`).
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pitprop.report.value import Report, Series

SCHEMA = 1


def to_json(report: Report) -> str:
    """The report as strict JSON, `{"schema": 1, ...}`."""
    diagnosis = report.diagnosis
    content = {
        "schema": SCHEMA,
        "pitprop": report.version,
        "folder": report.folder,
        "run": report.info,
        "last_step": report.last_step,
        "headline": report.headline,
        "findings": report.findings,
        "groups": [one.facts() for one in report.groups()],
        "diagnosis": diagnosis
        and {
            **plain({f.name: getattr(diagnosis, f.name) for f in dataclasses.fields(diagnosis) if f.name != "trials"}),
            "comparisons": [{"round": t.round, **plain(t.comparison)} for t in diagnosis.trials],
        },
        "series": [_summary(series) for series in report.series],
        "attention": [{"site": a.site, "step": a.step, "shape": a.weights.shape} for a in report.attention],
        "coverage": report.coverage,
        "unseen": report.unseen,
        "schedule": report.schedule,
        "command": report.command,
        "notes": report.notes,
        "rescue": report.rescue
        and {
            f.name: str(value) if isinstance(value := getattr(report.rescue, f.name), Path) else value
            for f in dataclasses.fields(report.rescue)
            if f.name != "curves"
        },
        "bisection": report.bisection,
    }
    return json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """`value` as what strict JSON can hold; numbers that are not finite become strings.

    Raises:
        TypeError: A value is of a kind that no record holds.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a report cannot hold {value!r:.60}")


def _summary(series: Series) -> dict[str, Any]:
    finite = series.values[np.isfinite(series.values)]
    return {
        "indicator": series.indicator,
        "site": series.site,
        "num_measured": series.num_measured,
        "steps": [int(series.steps[0]), int(series.steps[-1])],
        "first": float(series.values[0]),
        "last": float(series.values[-1]),
        "lowest": float(finite.min()) if finite.size else math.nan,
        "highest": float(finite.max()) if finite.size else math.nan,
        "defined_at_end": bool(np.isfinite(series.values[-1])),
    }
