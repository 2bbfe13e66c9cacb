"""A failure at many sites is one entry of the report, with the order of its sites, in all three forms."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from pitprop.report import Report, to_html, to_json, to_text


@pytest.fixture
def spreading(report: Report) -> Report:
    """The gravest finding at eight blocks, from the seventh downward, and once more much later."""
    first = report.findings[0]
    made = [
        dataclasses.replace(first, rule="dead-gradient", site=f"blocks.{7 - i}.attn", onset=100 + i, detected=140 + i)
        for i in range(8)
    ]
    made.append(dataclasses.replace(made[0], site="head<b>", onset=300, detected=340))
    return dataclasses.replace(report, findings=tuple(made))


SUMMARY = "8 sites, first at blocks.7.attn (step 100), then downward, last at blocks.0.attn (step 107)"


def test_text_says_the_group_once(spreading: Report):
    file = io.StringIO()
    to_text(spreading, Console(file=file, width=200))
    text = file.getvalue()
    assert text.count("dead-gradient") == 2 and "blocks.7.attn +7" in text
    assert SUMMARY in " ".join(text.split())


def test_html_folds_the_sites_away(spreading: Report):
    page = to_html(spreading)
    assert page.count("<h3>dead-gradient</h3>") == 2
    assert f'<p class="order">{SUMMARY}.</p>' in page
    assert "<summary>All 8 sites</summary>" in page
    for site in range(8):
        assert f"<code>blocks.{site}.attn</code>" in page
    assert "head<b>" not in page and "head&lt;b&gt;" in page


def test_json_has_every_finding_and_the_groups(spreading: Report):
    content = json.loads(to_json(spreading))
    assert len(content["findings"]) == 9
    first, second = content["groups"]
    assert (first["rule"], first["num_sites"], first["order"]) == ("dead-gradient", 8, "downward")
    assert first["summary"] == SUMMARY
    assert [entry["site"] for entry in first["sites"]] == [f"blocks.{7 - i}.attn" for i in range(8)]
    assert second["sites"] == [{"site": "head<b>", "onset": 300}]
