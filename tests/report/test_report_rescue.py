"""The report of a rescue: drawn from the folder and the traces that it names, in every state that they may be in."""

import io
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_run import HOSTILE, run_folder, trial_content

from pitprop import PitpropError
from pitprop.records import RUN, RunInfo
from pitprop.report import build, to_html, to_json, to_text
from pitprop.report.rescue_svg import timeline
from pitprop.trace import Writer

ONSET, END, BACK = 148, 400, 96


def watched(folder: Path, values) -> Path:
    with Writer(folder, RunInfo(name=folder.name, started="")) as writer:
        for step, value in enumerate(values):
            writer.append(step, {"loss": {RUN: 0.5}, "evaluate_output_uniqueness": {RUN: value}})
    return folder


@pytest.fixture
def rescued(tmp_path: Path) -> Path:
    """A rescue that went back to step 96 of a run of 400 steps."""
    run = run_folder(tmp_path / "run", trial=False)
    folder = tmp_path / "out"
    watched(folder / "watched" / "abc", [1.0] * 50 + [math.nan] + [0.5] * 49)
    content = trial_content()
    content["conclusion"] |= {"statement": "Rescued (output-duplication from step 148): went back.", "cause": None}
    content["rescue"] = {
        "collapsed": str(run / "snapshots" / "step-400"),
        "good": str(run / "snapshots" / "step-96"),
        "snapshots": [0, 1, 8, 96, 200, 400],
        "collapsed_step": 400,
        "good_step": 96,
        "trace": str(run),
        "after": {"trace": "watched/abc", "begin": BACK},
        "checkpoint": str(folder / "rescued-1"),
        "written": {
            "started_from": {"path": str(run / "snapshots" / "step-96")},
            "changes": f"from step-96; {HOSTILE}",
            "steps": 100,
            "recipe": "a.py:r",
            "seed": 7,
            "in_your_code": "Nothing in your code has to change.",
            "load": "    model.load_state_dict(load_file('model.safetensors'))\n",
            "started_anew": ["scheduler"],
            "sha256": {"model.safetensors": "0", "optimizer.pt": "1"},
        },
    }
    (folder / "trial.json").write_text(json.dumps(content))
    return folder


def edit(folder: Path, **changes) -> Path:
    content = json.loads((folder / "trial.json").read_text())
    content["rescue"] |= changes
    (folder / "trial.json").write_text(json.dumps(content))
    return folder


def test_the_way_that_won_goes_on_from_the_step_that_it_went_back_to(rescued):
    rescue = build(rescued).rescue
    metric = next(curve for curve in rescue.curves if curve.indicator == "evaluate_output_uniqueness")
    assert (metric.after_steps[0], metric.after_steps[-1]) == (BACK, BACK + 99)
    assert math.isnan(metric.after_values[50]) and not len(metric.steps)
    spoken = rescue.curves[0]  # what the first failure speaks of comes first
    assert spoken.indicator in ("output_uniqueness", "output_spread") and len(spoken.after_steps) == 0
    assert spoken.steps[-1] == END - 2


def test_the_page_shows_the_way_back_and_what_was_changed(rescued):
    page = to_html(build(rescued))
    for words in (
        "The way back",
        "last good, step 96",
        "collapsed, step 400",
        "What was changed",
        "scheduler",
        "seed 7",
    ):
        assert words in page
    assert "load_file(&#39;model.safetensors&#39;)" in page and "Make this rescue again" in page
    assert 'class="tone">Rescued<' in page and "<b>Made no difference</b>" in page and "Exonerated" not in page
    assert HOSTILE not in page
    drawing = str(timeline(build(rescued).rescue, build(rescued).findings))
    assert drawing.count('class="kept"') == 3 and drawing.count('class="bad"') == 2
    assert drawing.count('class="good" cx') == 1 and "nan" not in drawing
    assert 'class="undefined"' in drawing


def test_text_and_json_say_it_too(rescued):
    console = Console(record=True, width=100, file=io.StringIO())
    to_text(build(rescued), console)
    text = console.export_text()
    assert "snapshots: 6, steps 0 to 400" in text and "new checkpoint:" in text and "step-96" in text
    told = json.loads(to_json(build(rescued)), parse_constant=pytest.fail)["rescue"]
    assert told["good_step"] == 96 and told["snapshots"] == [0, 1, 8, 96, 200, 400] and "curves" not in told


def test_a_run_that_is_gone_is_said_to_be(rescued):
    shutil.rmtree(rescued.parent / "run")
    report = build(rescued)
    assert "no longer in" in report.notes[0] and report.headline.statement.startswith("Rescued")
    assert "What was changed" in to_html(report) and "last good, step 96" in to_html(report)


def test_a_checkpoint_alone_has_no_snapshots_and_may_not_be_rescued(rescued):
    plain = {"good": None, "good_step": None, "collapsed_step": None, "snapshots": []}
    edit(rescued, **plain, checkpoint=None, written=None, after=None)
    content = json.loads((rescued / "trial.json").read_text())
    content["conclusion"] |= {"statement": "Not rescued (output-duplication from step 148): nothing.", "remedy": None}
    (rescued / "trial.json").write_text(json.dumps(content))
    report = build(rescued)
    page = to_html(report)
    assert report.headline.tone == "failure" and report.rescue.outcome == "Not rescued"
    assert "What was changed" not in page and "Dots are snapshots" not in page
    assert report.headline.fixes == "No way that was tried."


def test_an_earlier_answer_finds_its_traces(rescued):
    earlier = rescued / "earlier" / "abc"
    earlier.mkdir(parents=True)
    (rescued / "trial.json").rename(earlier / "trial.json")
    assert any(len(curve.after_steps) for curve in build(earlier).rescue.curves)


@pytest.mark.parametrize("wrong", [{"snapshots": None}, {"after": {"trace": 3}}, {"trace": None}, {"written": 3}])
def test_what_is_malformed_is_named(wrong, rescued):
    with pytest.raises(PitpropError, match=r"trial\.json cannot be read"):
        build(edit(rescued, **wrong))


def test_no_text_lies_outside_of_the_drawing(rescued):
    for steps in ({"good_step": 0, "collapsed_step": 400}, {"good_step": 398, "collapsed_step": 400}):
        report = build(edit(rescued, **steps))
        drawing = str(timeline(report.rescue, report.findings))
        width = float(re.search(r'viewBox="0 0 (\d+)', drawing)[1])
        for at, anchor, words in re.findall(
            r'<text class="\w*" x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)">([^<]*)', drawing
        ):
            room = float(at) if anchor == "end" else width - float(at)
            assert anchor == "middle" or room > 7 * len(words), words
