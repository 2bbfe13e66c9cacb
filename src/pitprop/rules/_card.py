"""What was measured of a rule on labelled runs: `score_cards.json`, written by `make bench-rules`, put into words."""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

NONE_YET = "none yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCard:
    """How often one rule is wrong, what it misses and how late it is, on runs that no threshold was chosen on."""

    rule: str
    healthy: int
    """Healthy and benign runs that show at least one indicator that the rule reads."""
    alarms: int
    """Of these, runs with a finding: of a warning or a failure where the rule has such, of a note where it has none."""
    notes: int
    """Of these, runs with no more than a note of a rule that has graver findings."""
    alarms_high: float
    """Upper end of the 95 % Clopper-Pearson interval of the share of alarms."""
    faults: int
    """Runs in which the rule's fault was injected and took, by a measure that is not the rule's."""
    not_taken: int
    """Runs in which it was injected and did not take; they count nowhere else."""
    missed: int
    """Fault runs without a finding of the rule from the injection on."""
    found_as_notes: int
    """Fault runs with no more than a note of a rule that has graver findings."""
    missed_low: float
    missed_high: float
    """95 % Clopper-Pearson interval of the share missed."""
    delay: float
    """Median steps from injection to finding, every step measured; a missed run is infinite. NaN without runs."""
    delay_low: float
    delay_high: float
    """Order statistics that hold the median delay with at least 95 %; NaN with fewer than 6 runs."""
    alarmed_on: dict[str, int]
    """Runs with alarms by variant."""
    also: dict[str, int]
    """Other rules' warnings and failures after the injection: in how many of the fault runs. Not counted as false."""
    fault: str
    """Model, step and fault."""
    date: str
    commit: str
    command: str
    seeds: tuple[int, ...]
    packages: dict[str, str]

    def line(self) -> str:
        """In words: `0 of 102 healthy, missed 1 of 6, delay 34 [20, 61] steps`."""
        noted = f" ({self.notes} noted)" if self.notes else ""
        if not self.faults:
            return f"{self.alarms} of {self.healthy} healthy{noted}, no fault run"
        as_notes = f" ({self.found_as_notes} as notes)" if self.found_as_notes else ""
        found = f"missed {self.missed} of {self.faults}{as_notes}"
        if self.missed == self.faults:
            return f"{self.alarms} of {self.healthy} healthy{noted}, {found}"
        between = "" if math.isnan(self.delay_low) else f" [{_steps(self.delay_low)}, {_steps(self.delay_high)}]"
        return f"{self.alarms} of {self.healthy} healthy{noted}, {found}, delay {_steps(self.delay)}{between} steps"

    def short(self) -> str:
        """The counts alone: `0/102 false, 1/6 missed`."""
        missed = f", {self.missed}/{self.faults} missed" if self.faults else ""
        return f"{self.alarms}/{self.healthy} false{missed}"

    def paragraph(self) -> str:
        """The line with its intervals, where the alarms were and where the numbers come from."""
        shares = f"At 95 %, false alarms are under {self.alarms_high:.1%} of such runs"
        if self.faults:
            shares += f" and misses between {self.missed_low:.0%} and {self.missed_high:.0%}"
        where = ", ".join(f"{variant} ({number})" for variant, number in self.alarmed_on.items())
        parts = [
            f"**Score card: {self.line()}.** {shares}.",
            f"Fault: {self.fault}." if self.fault else "",
            f"It did not take in {self.not_taken} further runs." if self.not_taken else "",
            f"Alarms on: {where}." if where else "",
            f"Seeds {min(self.seeds)} to {max(self.seeds)}, every step measured, {self.date}, {self.commit[:10]}.",
        ]
        return " ".join(part for part in parts if part)


def _steps(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:g}"


@cache
def cards() -> dict[str, ScoreCard]:
    """Every card there is, by rule. JSON has no infinity: `"never"` is one, null is undefined."""
    text = (resources.files("pitprop.rules") / "score_cards.json").read_text(encoding="utf-8")
    return {card["rule"]: read(card) for card in json.loads(text)["cards"]}


def read(card: dict) -> ScoreCard:
    """A card as it is stored."""
    delays = {k: _number(card[k]) for k in ("delay", "delay_low", "delay_high")}
    return ScoreCard(**{**card, **delays, "seeds": tuple(card["seeds"])})


def _number(value: float | str | None) -> float:
    return math.nan if value is None else math.inf if value == "never" else float(value)


def line(rule: str) -> str:
    """The card of `rule` in one line; `none yet` where nothing was measured."""
    card = cards().get(rule)
    return NONE_YET if card is None else card.line()


def short(rule: str) -> str:
    """The counts of `rule`'s card; `none yet` where nothing was measured."""
    card = cards().get(rule)
    return NONE_YET if card is None else card.short()


def in_page(page: str, rule: str) -> str:
    """`page` with the rule's card at the end of the section `When it is wrong`."""
    card = cards().get(rule)
    said = f"Score card: {NONE_YET}." if card is None else card.paragraph()
    head, mark, tail = page.partition("\n## When it is wrong\n")
    body, following, rest = tail.partition("\n## ")
    return f"{head}{mark}{body.rstrip()}\n\n{said}\n{following}{rest}"
