"""Score cards as they ship: stored, read and put into words."""

import json
import math
from importlib import resources

import pytest

from pitprop.catalogue import find
from pitprop.rules import RULES, _card
from pitprop.rules._card import NONE_YET, ScoreCard

STORED = {
    "rule": "loss-spike",
    "healthy": 102,
    "alarms": 0,
    "notes": 0,
    "alarms_high": 0.0355,
    "faults": 6,
    "not_taken": 0,
    "missed": 1,
    "found_as_notes": 0,
    "missed_low": 0.004,
    "missed_high": 0.64,
    "delay": 34.0,
    "delay_low": 20.0,
    "delay_high": 61.0,
    "alarmed_on": {},
    "also": {"gradient-explosion": 4},
    "fault": "constant learning rate in gpt, step 150",
    "date": "2026-01-01",
    "commit": "0123456789abcdef",
    "command": "python -m score_cards",
    "seeds": [0, 1, 2, 3, 4, 5],
    "packages": {"torch": "2.6"},
}
"""Made up, to be put into words."""


def card(**other) -> ScoreCard:
    return _card.read(STORED | other)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, "0 of 102 healthy, missed 1 of 6, delay 34 [20, 61] steps"),
        ({"delay_high": "never"}, "0 of 102 healthy, missed 1 of 6, delay 34 [20, never] steps"),
        ({"delay_low": None, "delay_high": None}, "0 of 102 healthy, missed 1 of 6, delay 34 steps"),
        ({"missed": 6, "delay": "never"}, "0 of 102 healthy, missed 6 of 6"),
        ({"notes": 3, "found_as_notes": 2}, "0 of 102 healthy (3 noted), missed 1 of 6 (2 as notes), delay 34"),
        ({"faults": 0, "delay": None}, "0 of 102 healthy, no fault run"),
    ],
)
def test_a_card_in_words(other, said):
    assert card(**other).line().startswith(said)


def test_a_paragraph_says_where_the_alarms_were_and_where_it_comes_from():
    said = card(alarms=2, alarmed_on={"benign converged": 2}, not_taken=1).paragraph()
    for part in (
        "2 of 102",
        "benign converged (2)",
        "under 3.5%",
        "between 0% and 64%",
        "did not take in 1",
        "0123456789",
    ):
        assert part in said
    assert "Seeds 0 to 5" in said and "2026-01-01" in said


def test_undefined_and_never_are_told_apart():
    assert math.isinf(card(delay="never").delay) and math.isnan(card(delay=None).delay)


@pytest.fixture
def one_card(monkeypatch):
    known = {"loss-spike": card()}
    monkeypatch.setattr(_card, "cards", lambda: known)


def test_the_card_stands_in_the_section_on_errors(one_card):
    page = find("loss-spike").page
    head, _, rest = page.partition("## When it is wrong")
    section, _, _ = rest.partition("\n## ")
    assert "missed 1 of 6" in section and "missed 1 of 6" not in head
    assert "\n## Remedies\n" in page and "\n## References\n" in page
    assert find("loss-spike").facts["score_card"] == card().line()


def test_without_a_card_it_says_so(one_card):
    entry = find("non-finite")
    assert entry.facts["score_card"] == NONE_YET and f"Score card: {NONE_YET}." in entry.page


def test_the_file_that_ships_is_whole():
    """Every card is of a rule, made on the card's seeds, and says where it comes from."""
    stored = json.loads((resources.files("pitprop.rules") / "score_cards.json").read_text(encoding="utf-8"))
    names = [one["rule"] for one in stored["cards"]]
    assert len(names) == len(set(names)) and set(names) <= {rule.name for rule in RULES}
    for one in map(_card.read, stored["cards"]):
        assert len(one.seeds) >= 6 and max(one.seeds) < 100
        assert one.date and one.commit and one.packages["torch"]
        assert one.alarms + one.notes <= one.healthy and one.missed <= one.faults


def test_stable_rules_have_a_card_that_justifies_it():
    """docs/score_cards.md, "Shelves"."""
    for rule in RULES:
        if rule.shelf == "stable":
            one = _card.cards()[rule.name]
            assert one.alarms == 0 and one.healthy >= 90
            assert one.faults >= 6 and one.missed * 6 <= one.faults and one.found_as_notes == 0
