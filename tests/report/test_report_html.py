"""One file, no connection, and no name that can break out of its place."""

import base64
import dataclasses
import hashlib
import json
import math
import re
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import HOSTILE

from pitprop import PitpropError
from pitprop.records import Comparison
from pitprop.report import Report, svg, to_html, write
from pitprop.report.as_html import flat
from pitprop.report.wording import percent

DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.S)
SCRIPT = re.compile(r"<script>(.*?)</script>", re.S)


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def test_the_numbers_arrive_bit_for_bit(report: Report):
    found = DATA.search(to_html(report))
    assert found
    data = json.loads(found.group(1))
    steps, values = unpacked(data["steps_f64"], "<f8"), unpacked(data["values_f32"], "<f4")
    for packed, series in zip(data["series"], report.series, strict=True):
        np.testing.assert_array_equal(values[packed["at"] :][: packed["n"]], series.values)
        np.testing.assert_array_equal(steps[packed["steps"] :][: packed["n"]], series.steps)
    maps = unpacked(data["maps_f32"], "<f4")
    for packed, attention in zip(data["maps"], report.attention, strict=True):
        size = attention.weights.size
        np.testing.assert_array_equal(maps[packed["at"] :][:size], attention.weights.ravel())


def test_the_page_reaches_for_nothing(report: Report):
    page = to_html(report)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_the_vendored_files_are_those_that_were_taken_in():
    assets = resources.files("pitprop.report") / "assets"
    table = re.findall(r"\| `(\S+)` \| `(\w{64})` \|", (assets / "README.md").read_text())
    assert len(table) == 2
    for name, digest in table:
        assert hashlib.sha256((assets / name).read_bytes()).hexdigest() == digest


def test_the_policy_allows_exactly_our_scripts(report: Report):
    page = to_html(report)
    scripts = SCRIPT.findall(page)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) == 2
    policy = re.search(r"script-src ([^;]*);", page)
    assert policy and policy.group(1).split() == [f"'sha256-{h}'" for h in hashes]


def test_names_cannot_become_markup(hostile: Report):
    page = to_html(hostile)
    assert any(HOSTILE in series.site for series in hostile.series)
    assert HOSTILE in hostile.info.name
    assert "<script>alert" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert len(re.findall(r"</script", page)) == 3
    found = DATA.search(page)
    assert found and HOSTILE in {s["site"] for s in json.loads(found.group(1))["series"]}


def test_a_rule_page_is_rendered_and_its_html_escaped(report: Report):
    rule = report.findings[0].rule
    text = f"Summary {HOSTILE}.\n\n## Why it matters\nBecause.\n\n>>> 1 + 1\n2\n\n[x](javascript:alert(1))"
    pages = {rule: dataclasses.replace(report.pages[rule], text=text)}
    page = to_html(dataclasses.replace(report, pages=pages))
    assert "<h4>Why it matters</h4>" in page and "<pre><code>&gt;&gt;&gt; 1 + 1\n2\n</code></pre>" in page
    assert "<script>alert" not in page and 'href="javascript' not in page


def test_a_page_of_trials_alone_says_what_it_knows(report: Report):
    """No fork where there was none, no provenance of a run that nobody watched, the level of each guard's interval."""
    assert report.diagnosis is not None
    plan = dict(report.diagnosis.plan) | {"fork_step": 0}
    nobody = dataclasses.replace(report.info, started="", seed=None, device="", git_commit=None)
    alone = dataclasses.replace(
        report, last_step=None, info=nobody, diagnosis=dataclasses.replace(report.diagnosis, plan=plan, references={})
    )
    page, whole = to_html(alone), to_html(report)
    assert "steps from the start" in page and "start at the fork" not in page
    assert "start at the fork" in whole and "steps from the fork at step" in whole
    assert "<dt>folder</dt>" in page and "<dt>seed</dt>" not in page and "<dt>seed</dt>" in whole
    assert "solutions that need no training" not in page and "solutions that need no training" in whole
    (guard,) = report.diagnosis.guards
    assert f"at {percent(guard.confidence)}</small>" in page


def test_every_trial_finding_and_suspect_is_there(report: Report):
    page = to_html(report)
    assert report.diagnosis is not None
    for trial in report.diagnosis.trials:
        assert trial.comparison.arm in page
        assert f'class="chip v-{trial.comparison.verdict.replace(" ", "-")}"' in page
    for finding in report.findings:
        assert f"onset at step <b>{finding.onset}</b>" in page
        for name in finding.evidence:
            assert name in page
    assert page.count('class="forest') == len(report.diagnosis.trials) + 1
    assert "Exonerated" in page and "Runs that failed" in page and "loss is NaN at step 31" in page
    assert "pitprop diagnose model_merging --seeds 5" in page
    assert page.index("Confirm round") < page.index("Screen round")


def test_intervals_of_different_confidence_say_theirs(report: Report):
    assert report.diagnosis is not None
    trials = [
        dataclasses.replace(t, comparison=dataclasses.replace(t.comparison, confidence=0.95 + 0.01 * i))
        for i, t in enumerate(report.diagnosis.trials)
    ]
    diagnosis = dataclasses.replace(report.diagnosis, trials=tuple(trials))
    assert "at 98 %" in to_html(dataclasses.replace(report, diagnosis=diagnosis))


def comparison_of(report: Report) -> Comparison:
    assert report.diagnosis is not None
    return report.diagnosis.trials[0].comparison


@pytest.mark.parametrize("effect", [math.nan, math.inf])
def test_an_undefined_effect_is_drawn_as_absence_not_as_zero(report: Report, effect: float):
    c = dataclasses.replace(
        comparison_of(report), effect=effect, low=math.nan, high=math.nan, treated=(math.nan, math.nan)
    )
    image = svg.interval(c, svg.effect_scale([c]))
    assert 'class="interval"' not in image and 'class="seed"' not in image
    assert ('class="point"' in image) == (not math.isnan(effect))
    assert "nan" not in image.replace("undefined", "")


def test_a_curve_breaks_where_it_is_undefined(report: Report):
    finding = report.findings[0]
    series = next(s for s in report.series if s.indicator == "token_cosine" and np.isnan(s.values).any())
    curve = svg.spark(series, finding)
    assert curve.image.count("<polyline") == 2
    assert curve.image.count('class="undefined"') == int(np.isnan(series.values).sum())
    never = dataclasses.replace(series, values=np.full_like(series.values, np.nan))
    assert "never defined" in svg.spark(never, finding).caption


def test_a_curve_over_many_orders_is_logarithmic(report: Report):
    series = dataclasses.replace(report.series[0], values=np.geomspace(1, 1e6, len(report.series[0].values)))
    assert "log scale" in svg.spark(series, report.findings[0]).caption


def test_facts_are_flat():
    facts = {"a": {"b": True, "c": []}, "arms": [{"name": "x"}], "d": {}, "e": None, "f": 3e-7, "g": [1, 2]}
    assert flat(facts) == [
        ("a.b", "yes"), ("a.c", "none"), ("arms.0.name", "x"), ("d", "none"), ("e", "none"), ("f", "3e−07"),
        ("g", "1, 2"),
    ]  # fmt: skip


def test_the_file_is_written_whole(report: Report, tmp_path: Path):
    place = write(report, tmp_path / "report.html")
    assert place.read_text(encoding="utf-8") == to_html(report)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_failed_write_leaves_the_old_report(report: Report, tmp_path: Path):
    place = tmp_path / "report.html"
    place.write_text("old")
    broken = dataclasses.replace(report, info=None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute"):
        write(broken, place)
    assert place.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_place_that_cannot_be_written_is_explained(report: Report, tmp_path: Path):
    with pytest.raises(PitpropError, match="cannot be written to"):
        write(report, tmp_path / "nowhere" / "report.html")
