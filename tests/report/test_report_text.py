"""The report on one screen of a terminal."""

import dataclasses
import io
import math

import pytest
from rich.console import Console

from pitprop.records import Comparison
from pitprop.report import Report, to_text
from pitprop.report.as_text import PLOT, draw, trials_tables
from pitprop.report.svg import Scale
from pitprop.report.value import Trial
from pitprop.report.wording import duration, percent, sentence, show, span


def printed(report: Report, width: int = 100, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    to_text(report, Console(file=file, width=width))
    file.seek(0)
    return file.read()


def test_one_screen_says_it_all(report: Report):
    text = printed(report)
    lines = text.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    assert lines[0].startswith("The knob `bottleneck` = 'sum_tanh' causes the collapse; bottleneck=mean helps.")
    for word in (
        "output-duplication",
        "saturated-units",
        "neck.tanh",
        "[+0.886, +0.97]",
        "better",
        "inconclusive",
        "●",
    ):
        assert word in text
    assert "exonerated: uniform attention, gate=elementwise" in text
    assert "symptoms, not causes: token-uniformity at encoder.blocks.1" in text
    assert "note: Attention seen in 3 of 4 modules" in text
    assert lines[-1].startswith("again: pitprop diagnose model_merging --seeds 5")


def test_what_the_remedy_costs_stands_beside_it(report: Report):
    text = printed(report)
    assert "beside it: merged_accuracy 0.85 → 0.65: effect −0.2 [−0.25, −0.15]" in text
    assert "reference: constant mean: merged_accuracy 0.938" in text
    assert "never acted, so not tested: clip=1" in text
    assert "next: Try the remedy" in text


@pytest.mark.parametrize("width", [72, 80, 100, 140])
def test_the_verdict_is_readable_at_any_width(report: Report, width: int):
    text = printed(report, width)
    assert max(map(len, text.splitlines())) <= width
    assert "better" in text and "inconclusive" in text and "verdict" in text


def test_an_arm_stands_once_with_its_confirming_round(report: Report):
    row = [line for line in printed(report).splitlines() if line.startswith("bottleneck=mean")]
    assert len(row) == 1 and row[0].split()[1] == "5"


def test_many_findings_stay_on_the_screen(report: Report):
    many = tuple(
        dataclasses.replace(report.findings[0], rule=f"rule-{i}", site=f"blocks.{j}")
        for i in range(20)
        for j in range(9)
    )
    text = printed(dataclasses.replace(report, findings=many))
    assert len(text.splitlines()) <= 40 and "and 14 more" in text and "blocks.0 +8" in text


def test_names_are_not_read_as_rich_markup(report: Report):
    finding = dataclasses.replace(report.findings[0], site="[bold]blocks[/bold]")
    assert "[bold]blocks[/bold]" in printed(dataclasses.replace(report, findings=(finding,))).replace("\n", "")


COMPARISON = Comparison(
    arm="a",
    changes="c",
    metric="m",
    higher_is_better=True,
    seeds=(0,),
    control=(0.0,),
    treated=(1.0,),
    effect=1.0,
    low=0.5,
    high=1.5,
    confidence=0.95,
    p_value=0.5,
    margin=0.25,
    verdict="better",
    horizon=1,
    plan="",
)


def test_a_table_explains_its_levels_and_abbreviations():
    ended = dataclasses.replace(COMPARISON, verdict="inconclusive", further_seeds=7, confidence=0.96)
    stopped = dataclasses.replace(COMPARISON, arm="b", seeds=(0, 1), verdict="worse", stopped_of=8, confidence=0.998)
    shown = [Trial(round="single", comparison=c) for c in (COMPARISON, ended, stopped)]
    (plain,), (whole,) = (trials_tables(trials, 100, ascii_only=False) for trials in (shown[:1], shown))
    assert plain.title.endswith("margin 0.25, 95 % intervals") and plain.caption is None
    assert whole.title.endswith("margin 0.25, 95 to 99.8 % intervals")
    assert whole.caption == "2 of 8: stopped early; +7: so many further seeds may settle it"


def test_an_interval_is_drawn_to_scale():
    line = draw(COMPARISON, Scale(-2.0, 2.0))
    assert len(line) == PLOT
    assert line == " " * 8 + "·│·───●──" + " " * 2
    assert set(draw(COMPARISON, Scale(-2.0, 2.0), ascii_only=True)) == set(" .|-o")


@pytest.mark.parametrize("low", [math.nan, -math.inf])
def test_an_interval_without_ends_is_drawn_as_far_as_it_is_known(low: float):
    line = draw(dataclasses.replace(COMPARISON, low=low, high=-low), Scale(-2.0, 2.0))
    assert line.count("─") == (0 if math.isnan(low) else PLOT - 1) and "●" in line


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show(math.nan), "undefined"),
        (show(-math.inf), "−∞"),
        (show(None), "not measured"),
        (show(0.0, sign=True), "0"),
        (show(-0.00012346), "−0.00012"),
        (show(1200.0), "1200"),
        (show(3.0, sign=True), "+3"),
        (span(-0.5, math.nan), "[−0.5, undefined]"),
        (percent(0.95), "95 %"),
        (percent(1 - 0.05 / 3), "98.3 %"),
        (duration(41.2), "41 s"),
        (duration(200), "3 min 20 s"),
        (duration(7500), "2 h 5 min"),
        (duration(math.nan), "undefined"),
        (sentence("outputs are one"), "Outputs are one"),
        (sentence("blocks.3 is one"), "blocks.3 is one"),
        (sentence(""), ""),
    ],
)
def test_words_for_numbers(shown: str, expected: str):
    assert shown == expected
