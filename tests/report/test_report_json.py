"""JSON that every parser accepts, in which undefined is not zero and not missing."""

import dataclasses
import json
import math

import numpy as np
import pytest

from pitprop.report import Report, to_json
from pitprop.report.as_json import plain


def strict(text: str):
    def refuse(name: str):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_schema_is_stable(report: Report):
    content = strict(to_json(report))
    assert content["schema"] == 1
    assert list(content) == [
        "schema", "pitprop", "folder", "run", "last_step", "headline", "findings", "groups", "diagnosis", "series",
        "attention", "coverage", "unseen", "schedule", "command", "notes", "rescue", "bisection",
    ]  # fmt: skip
    assert content["findings"][0]["rule"] == "output-duplication"
    assert content["findings"][0]["evidence"].keys() == dict(report.findings[0].evidence).keys()
    assert content["diagnosis"]["comparisons"][4]["round"] == "confirm"
    assert len(content["diagnosis"]["comparisons"][4]["treated"]) == 5
    assert {s["site"] for s in content["series"]} == {s.site for s in report.series}


def test_undefined_infinite_and_unknown_are_kept_apart(report: Report):
    finding = dataclasses.replace(report.findings[0], evidence={"a_share": math.nan, "b_ratio": -math.inf, "c": 0.0})
    content = strict(to_json(dataclasses.replace(report, findings=(finding,), diagnosis=None)))
    assert content["findings"][0]["evidence"] == {"a_share": "nan", "b_ratio": "-inf", "c": 0.0}
    assert content["diagnosis"] is None


def test_a_series_that_was_never_defined_says_so(report: Report):
    first = report.series[0]
    blank = dataclasses.replace(first, values=np.full_like(first.values, np.nan))
    (summary,) = strict(to_json(dataclasses.replace(report, series=(blank,))))["series"]
    assert summary["lowest"] == summary["highest"] == summary["last"] == "nan"
    assert summary["num_measured"] == first.num_measured and summary["defined_at_end"] is False


def test_what_no_record_holds_is_refused():
    with pytest.raises(TypeError, match="a report cannot hold"):
        plain({"model": object()})
