"""What a whole run ends in, that live may still have been its start."""

from pitprop.records import RUN, Row
from pitprop.rules import detect
from pitprop.trials.unlearned import unlearned


def spread(*stretches):
    values = [value for value, num in stretches for _ in range(num)]
    return [Row(step=10 * t, site=RUN, values={"output_spread": value}) for t, value in enumerate(values)]


def test_a_short_run_that_never_leaves_its_start_has_failed():
    rows = spread((0.001, 100))
    assert detect(rows) == []
    (found,) = unlearned(rows, [])
    assert (found.rule, found.severity, found.onset, found.detected) == ("output-duplication", "failure", 0, 990)


def test_a_start_that_was_left_is_none():
    assert unlearned(spread((0.001, 80), (0.5, 20)), []) == []
    assert unlearned(spread((0.001, 80), (0.5, 10), (0.001, 10)), []) == []  # too few rows at the end to tell


def test_what_was_said_live_is_not_said_again():
    rows = spread((0.5, 60), (0.001, 60))
    live = detect(rows)
    assert [f.rule for f in live] == ["output-duplication"] and unlearned(rows, live) == []


def test_a_run_without_rows_says_nothing():
    assert unlearned([], []) == []
