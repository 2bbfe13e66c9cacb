"""Failures that a replay of the trace doesn't give: of the run's end, or of what the recipe declares."""

import json
import shutil
from dataclasses import asdict

import pytest

from pitprop._errors import PitpropError
from pitprop.records import RUN, Finding
from pitprop.report import build
from pitprop.report.watched_file import NAME, beyond_the_trace

ENDED = Finding(
    rule="loss-plateau-at-floor", severity="failure", site=RUN, onset=0, detected=90, message="It never began."
)


@pytest.fixture
def watched(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "run")
    (copy / NAME).write_text(json.dumps({"findings": [asdict(ENDED)], "address": "a"}))
    return copy


def test_a_diagnosis_reports_what_the_end_of_its_run_settled(watched):
    assert [f for f in build(watched).findings if f.detected == ENDED.detected and f.rule == ENDED.rule] == [ENDED]
    assert ENDED not in build(watched, allow=("loss-plateau-at-floor",)).findings


def test_what_the_trace_says_is_not_said_again(watched):
    assert beyond_the_trace(watched, []) == [ENDED] and beyond_the_trace(watched, [ENDED]) == []


def test_without_the_file_there_is_nothing(tmp_path):
    assert beyond_the_trace(tmp_path, []) == []


@pytest.mark.parametrize("text", ["{", "{}", '{"findings": [{"rule": 1}]}'])
def test_a_file_that_is_not_ours_is_an_error_that_names_it(watched, text):
    (watched / NAME).write_text(text)
    with pytest.raises(PitpropError, match=NAME):
        build(watched)
