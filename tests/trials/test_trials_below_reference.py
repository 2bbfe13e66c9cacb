"""The failure that a recipe declares: below the reference that it should keep, by more than the margin."""

import dataclasses

import pytest

from pitprop import PitpropError
from pitprop.records import RUN
from pitprop.trials import Recipe
from pitprop.trials import below_reference as module
from pitprop.trials.below_reference import below_reference

RECIPE = Recipe(build=lambda seed, knobs: None, knobs=object, metric="score", margin=0.1, keeps="start")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def references(monkeypatch):
    monkeypatch.setattr(module, "references_of", lambda reference: {"start": {"score": 0.7}, "chance": {"loss": 1.0}})


def seen(*values, **changes):
    curve = [[10 * i, value] for i, value in enumerate(values)]
    return below_reference(dataclasses.replace(RECIPE, **changes), "a.py:recipe", curve)


def test_a_run_that_stays_below_has_failed_from_where_it_fell():
    [finding] = seen(0.7, 0.4, 0.65, 0.5, 0.55)
    assert (finding.rule, finding.severity, finding.site) == ("below-reference", "failure", RUN)
    assert (finding.onset, finding.detected) == (30, 40)  # at 20 it was within the margin once more
    assert finding.evidence == {"score": 0.55, "reference": 0.7}
    assert "score ends at 0.55, and `start`, which the run should keep, has 0.7; margin 0.1." in finding.message


def test_a_run_that_comes_back_or_stays_within_the_margin_has_not():
    assert seen(0.1, 0.2, 0.61) == []
    assert seen(0.1, 0.59) != []


def test_the_direction_is_the_recipes():
    assert seen(0.1, 0.75, higher_is_better=False) == []
    assert len(seen(0.1, 0.85, higher_is_better=False)) == 1


def test_an_undefined_end_is_a_failure():
    [finding] = seen(0.7, "nan")
    assert finding.onset == 10


def test_without_a_reference_to_keep_there_is_no_finding():
    assert seen(0.1, 0.1, keeps="") == []


@pytest.mark.parametrize("name", ["begin", "chance"])
def test_a_name_that_is_no_reference_with_the_metric_is_refused(name):
    with pytest.raises(
        PitpropError, match=rf"keep `{name}`, and no reference of this name has a `score`(.|\n)*`start`"
    ):
        seen(0.5, keeps=name)
