"""A folder that holds the user's own files by our names is refused, and nothing in it is touched."""

import pytest

from pitprop import PitpropError, report
from pitprop.cli import main
from pitprop.records import RunInfo
from pitprop.trace import Writer
from pitprop.trials import Plan, trial
from pitprop.trials.execute import make_folder, write_plan
from pitprop.trials.foreign import OURS
from pitprop.trials.interventions import Knob

PLAN = Plan(recipe="a.py:r", source="s", arms=(), seeds=(0, 1), metric="m", horizon=10)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    "content", ['{"recipe": "of a cake", "plan": "mine"}', "<html>mine</html>", "[1, 2]", "", b"\xff"]
)
def test_a_file_of_the_users_is_refused_and_kept(tmp_path, name, content):
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PitpropError, match="was not written by pitprop") as refused:
        make_folder(tmp_path)
    assert str(tmp_path / name) in refused.value.seen and "--out" in refused.value.do
    assert [f.name for f in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == content


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(PitpropError, match="cannot be read: Is a directory"):
        make_folder(tmp_path)


@pytest.mark.parametrize("verb", [["trial", "--knob-arm", "pool=none"], ["diagnose"], ["bisect", "--by-module", "*"]])
def test_every_verb_refuses_before_it_runs_anything(tmp_path, reference, capsys, monkeypatch, verb):
    (tmp_path / "plan.json").write_text('{"tasks": []}')
    monkeypatch.chdir(tmp_path)
    assert main([verb[0], reference("recipes_tiny", "guilty"), *verb[1:], "--out", "."]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "was not written by pitprop" in said and (tmp_path / "plan.json").read_text() == '{"tasks": []}'
    assert not (tmp_path / "runs").exists()


def test_what_pitprop_wrote_is_its_own(pool, reference, tmp_path):
    options = {"seeds": 2, "horizon": 5, "folder": tmp_path, "executor": pool}
    trial(reference("recipes_tiny", "guilty"), [Knob("pool", "none")], **options)
    report.write(report.build(tmp_path), tmp_path / "report.html")
    assert make_folder(tmp_path) == tmp_path
    write_plan(PLAN, tmp_path)
    assert make_folder(tmp_path) == tmp_path


def test_the_trace_of_a_watched_run_is_refused_and_that_of_a_killed_diagnosis_is_not(tmp_path):
    with Writer(tmp_path, RunInfo(name="three days of training", started="2026-01-01T00:00:00+00:00")):
        pass
    before = (tmp_path / "trace.sqlite").read_bytes()
    with pytest.raises(PitpropError, match="holds the trace of a watched run"):
        make_folder(tmp_path)
    assert (tmp_path / "trace.sqlite").read_bytes() == before
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".lock").touch()
    assert make_folder(tmp_path) == tmp_path
