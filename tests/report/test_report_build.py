"""From a folder to the one value: what is found, what is kept, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import BLOCKS, run_folder, trial_content

from pitprop import PitpropError
from pitprop.records import RUN, RunInfo
from pitprop.report import Report, build, to_html, to_json
from pitprop.report.headline import effect, remedy_trial
from pitprop.rules import RULES, detect
from pitprop.trace import Reader, Writer


def series_of(report: Report, indicator: str, site: str):
    return next(s for s in report.series if (s.indicator, s.site) == (indicator, site))


def test_findings_are_those_of_the_rules_gravest_first(folder: Path, report: Report):
    with Reader(folder) as reader:
        expected = detect(reader.rows())
    assert set(map(repr, report.findings)) == set(map(repr, expected))
    gravity = [("failure", "warning", "note").index(f.severity) for f in report.findings]
    assert gravity == sorted(gravity)
    assert report.findings[0].rule == "output-duplication"
    assert set(report.pages) == {f.rule for f in report.findings}
    assert "What it detects" in report.pages["output-duplication"].text


def test_allowed_findings_are_left_out_and_an_unknown_name_is_refused(folder: Path):
    assert "output-duplication" not in {f.rule for f in build(folder, allow=["output-duplication"]).findings}
    with pytest.raises(PitpropError, match="no-such-rule"):
        build(folder, allow=["no-such-rule"])


def test_series_are_those_of_the_trace_with_undefined_and_missing_apart(folder: Path, report: Report):
    with Reader(folder) as reader:
        for indicator in reader.indicators():
            for site in reader.sites(indicator):
                steps, values = reader.series(indicator, site)
                ours = series_of(report, indicator, site)
                np.testing.assert_array_equal(ours.steps, steps)
                np.testing.assert_array_equal(ours.values, values)
    undefined = series_of(report, "token_cosine", BLOCKS[1])
    missing = series_of(report, "attention_entropy", f"{BLOCKS[2]}.attention")
    assert np.isnan(undefined.values[undefined.steps == 60]).all() and 60 in undefined.steps
    assert 60 not in missing.steps and not np.isnan(missing.values).any()
    assert np.isinf(series_of(report, "gradient_norm", BLOCKS[0]).values).sum() == 1


def test_the_first_screen_answers_what_why_what_helps_and_how_sure(report: Report):
    head = report.headline
    assert head.tone == "failure"
    assert head.statement == "The knob `bottleneck` = 'sum_tanh' causes the collapse; bottleneck=mean helps."
    assert head.happened.startswith("Outputs differ by")
    assert head.why == ("The knob `bottleneck` = 'sum_tanh', by way of saturated-units at neck.squash from step 0")
    assert head.fixes.startswith("bottleneck=mean")
    assert head.sure == (
        "output_uniqueness 0.0212 → 0.949: effect +0.928, 95 % interval [+0.886, +0.97], 5 seeds, "
        "sign-flip p = 0.0625, the least that 5 seeds can give; margin 0.05."
    )
    assert report.command[:3] == ("pitprop", "diagnose", "model_merging")


def test_the_confirming_round_speaks_for_the_remedy(report: Report):
    assert report.diagnosis is not None
    best = remedy_trial(report.diagnosis)
    assert best is not None and len(best.seeds) == 5
    assert "5 seeds" in effect(best)


def test_without_a_trial_the_report_holds_findings_only(tmp_path: Path):
    report = build(run_folder(tmp_path / "run", trial=False))
    assert report.diagnosis is None and report.findings
    assert report.headline.statement == (
        "2 failure modes were found in 399 steps; the gravest is output-duplication, from step 148."
    )
    assert "trial" in report.headline.why and not report.headline.sure
    assert "What may help" in to_html(report)


def test_an_unsettled_diagnosis_says_so(tmp_path: Path):
    folder = run_folder(tmp_path / "run")
    content = trial_content()
    content["conclusion"] |= {
        "cause": None,
        "remedy": None,
        "mechanism": None,
        "statement": "Inconclusive: p = 0.5 is too much. More.",
    }
    (folder / "trial.json").write_text(json.dumps(content))
    report = build(folder)
    assert report.headline.statement == "Inconclusive: p = 0.5 is too much."
    assert report.headline.why == "Not established."
    assert report.headline.sure == content["conclusion"]["next"]


def test_a_diagnosis_that_made_no_trial(tmp_path: Path):
    folder = run_folder(tmp_path / "run")
    content = trial_content() | {"plan": {}, "plan_hash": "", "fork": {}, "comparisons": []}
    content["conclusion"] = {
        "statement": "Nothing collapsed.",
        "cause": None,
        "remedy": None,
        "exonerated": [],
        "next": "",
        "mechanism": None,
    }
    (folder / "trial.json").write_text(json.dumps(content))
    report = build(folder)
    assert report.headline.statement == "Nothing collapsed."
    assert not (report.headline.happened or report.headline.why or report.headline.fixes or report.headline.sure)
    page = to_html(report)
    assert "No comparison was made." in page and "Plan and proof" not in page


def test_an_empty_trace_is_said_to_be_empty(tmp_path: Path):
    with Writer(tmp_path / "run", RunInfo(name="empty", started="2026-11-21T00:00:00Z")):
        pass
    report = build(tmp_path / "run")
    assert report.headline.tone == "warning" and "empty" in report.headline.statement
    assert "No rule found anything" in to_html(report)
    assert json.loads(to_json(report))["series"] == []


def test_nothing_found_is_clear(tmp_path: Path):
    with Writer(tmp_path / "run", RunInfo(name="fine", started="2026-11-21T00:00:00Z")) as writer:
        for step in range(40):
            writer.append(step, {"loss": {RUN: 1.0 / (step + 1)}})
    head = build(tmp_path / "run").headline
    assert (head.tone, head.statement) == ("clear", "Nothing was found in 40 steps.")


def test_no_trace_is_the_readers_error(tmp_path: Path):
    with pytest.raises(PitpropError, match="trace"):
        build(tmp_path)


def test_long_series_are_thinned_and_the_report_says_so(tmp_path: Path):
    with Writer(tmp_path / "run", RunInfo(name="long", started="2026-11-21T00:00:00Z")) as writer:
        for step in range(2_500):
            writer.append(step, {"loss": {RUN: 100.0 if step == 1234 else 1.0}})
    report = build(tmp_path / "run", rules=())
    (loss,) = report.series
    assert loss.num_measured == 2_500 and len(loss.values) <= 2_000
    assert loss.values.max() == 100.0
    assert "1 of 1 series" in report.notes[0] and report.notes[0] in to_html(report)


def test_attention_maps_are_pooled_and_spread(tmp_path: Path):
    weights = np.full((2, 3, 100, 100), 0.01, np.float32)
    with Writer(tmp_path / "run", RunInfo(name="maps", started="2026-11-21T00:00:00Z")) as writer:
        for step in range(60):
            writer.append_array(step, "block.attention", "attention", weights)
    report = build(tmp_path / "run", rules=RULES)
    assert report.attention[0].weights.shape == (3, 50, 50) and report.attention[0].pooled == 2
    np.testing.assert_allclose(report.attention[0].weights, 0.01, rtol=1e-6)
    assert (report.attention[0].step, report.attention[-1].step) == (0, 59)
    assert len(report.attention) < 60 and len(report.notes) == 2
