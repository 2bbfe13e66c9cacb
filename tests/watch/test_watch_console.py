"""What a watch prints: a group once, its growth in few lines, and nothing lost."""

import pytest

from pitprop.records import Finding, Severity
from pitprop.watch._console import Voice


def found(
    site: int, *, onset: int | None = None, severity: Severity = "warning", rule: str = "dead-gradient"
) -> Finding:
    onset = 100 + site if onset is None else onset
    where = f"blocks.{site}.attn"
    return Finding(
        rule=rule, severity=severity, site=where, onset=onset, detected=onset + 50, message=f"no gradient at {where}"
    )


@pytest.fixture
def voice(capsys):
    return Voice(quiet=False)


def test_a_group_is_said_once_then_as_it_doubles_then_at_the_end(voice, capsys):
    for site in range(11):
        voice.finding(found(site))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pitprop warning: dead-gradient at blocks.0.attn, step 150 (began at 100)"
    heads = [line for line in lines if line.startswith("pitprop ")]
    assert heads[1:] == [
        "pitprop warning: dead-gradient at 2 sites, first at blocks.0.attn (step 100), last at "
        "blocks.1.attn (step 101)",
        "pitprop warning: dead-gradient at 4 sites, first at blocks.0.attn (step 100), then upward, last at "
        "blocks.3.attn (step 103)",
        "pitprop warning: dead-gradient at 8 sites, first at blocks.0.attn (step 100), then upward, last at "
        "blocks.7.attn (step 107)",
    ]
    voice.groups()
    assert capsys.readouterr().err == (
        "pitprop warning: dead-gradient at 11 sites, first at blocks.0.attn (step 100), then upward, last at "
        "blocks.10.attn (step 110)\n"
    )


def test_ten_thousand_sites_do_not_flood(voice, capsys):
    for site in range(10_000):
        voice.finding(found(site, onset=7))
    voice.groups()
    heads = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pitprop ")]
    assert len(heads) == 15
    assert heads[-1].endswith("at 10000 sites, all from step 7 on, blocks.0.attn to blocks.9999.attn")


def test_a_graver_finding_and_another_wave_are_said_in_full(voice, capsys):
    for finding in (found(0), found(1), found(2), found(3, severity="failure"), found(9, onset=900)):
        voice.finding(finding)
    said = capsys.readouterr().err
    assert "no gradient at blocks.0" in said and "failure: dead-gradient at blocks.3.attn, step 153" in said
    assert "no gradient at blocks.9" in said
    assert "no gradient at blocks.1" not in said and "no gradient at blocks.2" not in said
    voice.groups()
    assert capsys.readouterr().err == ""  # the line at four sites was the last word


def test_what_was_said_before_a_resumption_is_only_counted(voice, capsys):
    for site in range(3):
        voice.know(found(site))
    voice.finding(found(3))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("pitprop warning: dead-gradient at 4 sites, first at blocks.0.attn")
