"""`trial.json` is read whole or refused, with the place that is wrong."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_run import trial_content

from pitprop import PitpropError
from pitprop.report import build, to_html, to_text, trial_file


def write(folder: Path, content: object) -> Path:
    (folder / "trial.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_the_file_is_read_whole(tmp_path: Path):
    content = trial_content()
    diagnosis = trial_file.read(write(tmp_path, content))
    assert diagnosis is not None
    assert [t.round for t in diagnosis.trials] == ["screen"] * 4 + ["confirm"] * 2
    assert diagnosis.trials[4].comparison.seeds == (0, 1, 2, 3, 4)
    assert diagnosis.conclusion.exonerated == ("uniform attention", "gate=elementwise")
    assert diagnosis.failed[0]["seed"] == 1


def test_an_older_file_is_readable_and_a_newer_one_is_refused(tmp_path: Path):
    content = trial_content()
    for later in ("guards", "references", "failed"):
        del content[later]
    del content["conclusion"]["mechanism"], content["conclusion"]["inert"], content["conclusion"]["symptoms"]
    old = trial_file.read(write(tmp_path, content))
    assert old is not None and old.guards == () and old.conclusion.mechanism is None
    with pytest.raises(PitpropError, match="its schema is 2"):
        trial_file.read(write(tmp_path, content | {"schema": 2}))


def test_runs_that_were_started_again_are_told(tmp_path: Path):
    content = trial_content() | {"timing": {"restarted_runs": 2}}
    shown = build(write(tmp_path, content))
    assert shown.diagnosis is not None and shown.diagnosis.restarted_runs == 2
    told = "2 runs were started again after their worker died."
    assert told in to_html(shown)
    file = io.StringIO()
    to_text(shown, Console(file=file, width=100))
    assert told in file.getvalue()
    with pytest.raises(PitpropError, match=r"timing\.restarted_runs"):
        trial_file.read(write(tmp_path, content | {"timing": {"restarted_runs": "<b>"}}))


def test_no_file_is_no_diagnosis(tmp_path: Path):
    assert trial_file.read(tmp_path) is None


def test_undefined_and_infinite_numbers_arrive(tmp_path: Path):
    content = trial_content()
    content["comparisons"][0] |= {"low": "-inf", "high": "inf", "effect": "nan", "treated": ["nan", 0.5]}
    diagnosis = trial_file.read(write(tmp_path, content))
    assert diagnosis is not None
    c = diagnosis.trials[0].comparison
    assert (c.low, c.high) == (-math.inf, math.inf) and math.isnan(c.effect) and math.isnan(c.treated[0])


def change(path: str, value: object) -> Callable[[dict], object]:
    def apply(content: dict) -> dict:
        at, keys = content, path.split(".")
        for key in keys[:-1]:
            at = at[int(key) if key.isdigit() else key]
        at[keys[-1]] = value
        return content

    return apply


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda content: [content], "the file"),
        (lambda content: {k: v for k, v in content.items() if k != "conclusion"}, "`conclusion` is missing"),
        (change("conclusion", "it is the neck"), "`conclusion` is 'it is the neck'"),
        (change("conclusion.exonerated", ["a", 3]), r"`conclusion.exonerated\[1\]` is 3"),
        (change("comparisons.2.verdict", "great"), r"`comparisons\[2\].verdict` is 'great', not one of better"),
        (change("comparisons.1.effect", "large"), "'large' stands where a number belongs"),
        (change("comparisons.0.seeds", [1]), r"`comparisons\[0\].seeds`, `control` and `treated` differ in length"),
        (change("comparisons.0.seeds", [1, "nan"]), r"`comparisons\[0\].seeds\[1\]` is 'nan'"),
        (change("command", "pitprop diagnose"), "`command` is"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(tmp_path: Path, damage: Callable, named: str):
    with pytest.raises(PitpropError, match=named) as caught:
        trial_file.read(write(tmp_path, damage(trial_content())))
    assert str(tmp_path / "trial.json") in str(caught.value) and "Do: " in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path: Path):
    (tmp_path / "trial.json").write_text(json.dumps(trial_content())[:500])
    with pytest.raises(PitpropError, match="cannot be read as the result of a diagnosis"):
        trial_file.read(tmp_path)
