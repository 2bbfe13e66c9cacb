"""The engine: one state per rule and site, each finding once, allow, and rules that raise."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from pitprop import RUN, Finding, PitpropError, Row
from pitprop.rules import INTERNAL, RULES, Detector, detect
from pitprop.rules.output_duplication import OutputDuplication
from pitprop.rules.saturated_units import SaturatedUnits


def saturated(site: str, num_rows: int = 60) -> list[Row]:
    return [Row(step=t, site=site, values={"saturated_share": 0.9}) for t in range(num_rows)]


def interleaved(*traces: list[Row]) -> list[Row]:
    return [row for step in zip(*traces, strict=True) for row in step]


@dataclass(frozen=True)
class Broken:
    """A rule with a fault of its own, after two rows."""

    name: ClassVar[str] = "broken"
    reads: ClassVar[tuple[str, ...]] = ("loss",)
    severity: ClassVar[str] = "note"
    remedies: ClassVar[tuple[str, ...]] = ()
    shelf: ClassVar[str] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False

    def init(self):
        return (0,)

    def update(self, state, row):
        if state[0] == 2:
            raise ZeroDivisionError("two is too much")
        return (state[0] + 1,), None


def test_each_site_has_its_own_state_and_speaks_once():
    findings = detect(interleaved(saturated("a", 200), saturated("b", 200)))
    assert [(f.site, f.detected) for f in findings] == [("a", 39), ("b", 39)]


def test_default_rules_are_all_rules():
    assert detect(saturated("a")) == detect(saturated("a"), RULES)
    live = Detector()
    assert [f for row in saturated("a") for f in live.update(row)] == detect(saturated("a"))


def test_message_says_what_where_since_when_and_what_it_means():
    [finding] = detect(saturated("neck"))
    assert finding.message == (
        "90% of the units are saturated at neck since the first row; what feeds them gets hardly any gradient."
    )
    assert finding.evidence == {"saturated_share": 0.9}


def test_allow_by_rule_and_by_rule_at_site():
    trace = interleaved(saturated("a"), saturated("b"))
    assert detect(trace, allow=("saturated-units",)) == []
    assert detect(trace, allow="saturated-units") == []
    assert [f.site for f in detect(trace, allow=("saturated-units@a",))] == ["b"]
    assert [f.site for f in detect(trace, allow=("saturated-units@nowhere",))] == ["a", "b"]


def test_any_registered_rule_may_be_allowed_where_only_some_are_applied():
    assert detect(saturated("a"), (OutputDuplication(),), allow=("saturated-units",)) == []


@pytest.mark.parametrize("entry", ["saturated-unit", "saturated-units@", "neck", ""])
def test_allow_that_names_nothing_is_an_error(entry):
    with pytest.raises(PitpropError) as error:
        detect([], allow=(entry,))
    text = str(error.value)
    assert text.startswith(f"allow: `{entry}` is neither a name nor `name@site`\nIt would allow nothing")
    assert "Read: pitprop list rules" in text
    assert "`saturated-units`" in text or entry in ("neck", "")


def test_a_rule_that_raises_takes_nobody_down():
    rows = [Row(step=t, site=RUN, values={"loss": 1.0}) for t in range(10)]
    findings = detect(interleaved(rows, saturated("neck", 10)), (Broken(), SaturatedUnits(transient=0, patience=5)))
    assert [(f.rule, f.severity, f.site, f.detected) for f in findings] == [
        (INTERNAL, "warning", RUN, 2),
        ("saturated-units", "warning", "neck", 4),
    ]
    assert findings[0].message == (
        "rule broken raised ZeroDivisionError: two is too much at <run> in step 2; "
        "it is switched off there, and the run is not affected."
    )


def test_findings_about_us_can_be_allowed_and_other_sites_go_on():
    rows = [Row(step=t, site=s, values={"loss": 1.0}) for t in range(10) for s in ("a", "b")]
    assert [f.site for f in detect(rows, (Broken(),))] == ["a", "b"]
    assert detect(rows, (Broken(),), allow=(INTERNAL,)) == []


def test_a_note_does_not_silence_the_failure_that_follows_and_nothing_is_said_twice():
    said = {3: "note", 5: "warning", 6: "note", 8: "failure", 9: "failure"}

    class Worse(Broken):
        severity = "failure"

        def update(self, state, row):
            if row.step not in said:
                return state, None
            return state, Finding(
                rule="broken", severity=said[row.step], site=row.site, onset=0, detected=row.step, message="worse"
            )

    rows = [Row(step=t, site=RUN, values={"loss": 1.0}) for t in range(12)]
    assert [(f.severity, f.detected) for f in detect(rows, (Worse(),))] == [("note", 3), ("warning", 5), ("failure", 8)]


def test_a_rule_that_raises_after_it_has_spoken_says_so_once():
    class Late(Broken):
        severity = "failure"

        def update(self, state, row):
            if row.step > 1:
                raise ZeroDivisionError("late")
            return state, Finding(
                rule="broken", severity="warning", site=row.site, onset=0, detected=row.step, message="once"
            )

    rows = [Row(step=t, site=RUN, values={"loss": 1.0}) for t in range(6)]
    assert [(f.rule, f.detected) for f in detect(rows, (Late(),))] == [("broken", 0), (INTERNAL, 2)]


def test_rows_without_what_a_rule_reads_are_not_shown_to_it():
    rows = [Row(step=t, site=RUN, values={"accuracy": 1.0}) for t in range(10)]
    assert detect(rows, (Broken(),)) == []


def test_thresholds_are_fields():
    assert [f.detected for f in detect(saturated("a"), (SaturatedUnits(patience=3, transient=0),))] == [2]
    assert detect(saturated("a"), (SaturatedUnits(majority=0.95),)) == []
