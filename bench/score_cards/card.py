"""From traces to score cards: false alarms on healthy runs, misses and delays on fault runs, each with its interval."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy.stats import binom, binomtest

from pitprop.records import Finding
from pitprop.rules import RULES, Rule, detect
from pitprop.rules import _card as shipped
from pitprop.rules._card import ScoreCard
from pitprop.trace import Reader, collect
from score_cards.run import Run, find, train

FILE = Path(shipped.__file__).parent / "score_cards.json"
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Labelled:
    """A finished run with everything that all rules say of it."""

    run: Run
    took: bool
    indicators: frozenset[str]
    findings: tuple[Finding, ...]

    def of(self, rule: Rule) -> list[Finding]:
        """Findings of `rule` from the change on; before it a fault run is its healthy twin, which counts already."""
        begin = self.run.variant.step if self.run.variant.kind == "fault" else 0
        return [f for f in self.findings if f.rule == rule.name and f.detected >= begin]


def judge(kind: str, name: str, seed: int) -> tuple[bool, frozenset[str], tuple[Finding, ...]]:
    """Train a run, unless its trace is there, and ask all rules of the trace: `took`, indicators and findings."""
    run = find(kind, name, seed)
    took = train(run)["took"]
    with Reader(run.folder) as trace:
        return took, frozenset(trace.indicators()), tuple(detect(trace.rows()))


def share(number: int, of: int) -> tuple[float, float]:
    """Clopper-Pearson interval of a share; of nothing, anything is possible."""
    if of == 0:
        return 0.0, 1.0
    interval = binomtest(number, of).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Order statistics k and n + 1 - k, k as large as holds the median with 95 %; NaN under 6 values.

    P(the k-th of n values is over the median) = P(Binomial(n, 1/2) < k), so the interval errs with twice that.
    """
    ordered, n = sorted(values), len(values)
    fit = [k for k in range(1, n // 2 + 1) if 2 * binom.cdf(k - 1, n, 0.5) <= 1 - CONFIDENCE]
    return (ordered[fit[-1] - 1], ordered[n - fit[-1]]) if fit else (math.nan, math.nan)


def grave(rule: Rule, findings: Sequence[Finding]) -> list[Finding]:
    """Findings that count as alarms: notes only where the rule has nothing graver."""
    return [f for f in findings if f.severity != "note" or rule.severity == "note"]


def card_of(rule: Rule, runs: Sequence[Labelled], command: str) -> ScoreCard:
    """The card of one rule."""
    fine = [
        one
        for one in runs
        if one.run.variant.kind != "fault"
        and rule.name not in one.run.variant.true_of
        and not one.indicators.isdisjoint(rule.reads)
    ]
    own = [one for one in runs if one.run.variant.rule == rule.name]
    faulty = [one for one in own if one.took]
    alarms = [one for one in fine if grave(rule, one.of(rule))]
    first = [min((f.detected for f in one.of(rule)), default=math.inf) for one in faulty]
    delays = [step - one.run.variant.step for step, one in zip(first, faulty, strict=True)]
    missed = sum(map(math.isinf, delays))
    low, high = median_interval(delays)
    missed_low, missed_high = share(missed, len(faulty))
    others = Counter(
        name
        for one in faulty
        for name in {
            f.rule for f in one.findings if f.severity != "note" and f.detected >= one.run.variant.step
        } - {rule.name}
    )  # fmt: skip
    info = collect("score-cards")
    return ScoreCard(
        rule=rule.name,
        healthy=len(fine),
        alarms=len(alarms),
        notes=sum(bool(one.of(rule)) for one in fine) - len(alarms),
        alarms_high=share(len(alarms), len(fine))[1],
        faults=len(faulty),
        not_taken=len(own) - len(faulty),
        missed=missed,
        found_as_notes=sum(bool(one.of(rule)) and not grave(rule, one.of(rule)) for one in faulty),
        missed_low=missed_low,
        missed_high=missed_high,
        delay=statistics.median(delays) if delays else math.nan,
        delay_low=low,
        delay_high=high,
        alarmed_on=dict(Counter(f"{one.run.variant.kind} {one.run.variant.name}" for one in alarms)),
        also=dict(others.most_common()),
        fault=describe(own[0].run) if own else "",
        date=info.started[:10],
        commit=info.git_commit or "unknown",
        command=command,
        seeds=tuple(sorted({one.run.seed for one in runs})),
        packages=dict(info.packages),
    )


def describe(run: Run) -> str:
    """Model, change and step of a fault, in words."""
    variant = run.variant
    change = getattr(variant.change, "__qualname__", "").partition(".")[0].replace("_", " ")
    return f"{change} in {variant.model}, step {variant.step}"


def cards(runs: Sequence[Labelled], only: Sequence[str] | None, command: str) -> list[ScoreCard]:
    """A card for each rule that has runs, or for `only` these."""
    return [card_of(rule, runs, command) for rule in RULES if only is None or rule.name in only]


def write(new: Sequence[ScoreCard], path: Path = FILE) -> None:
    """Put `new` into the file that ships with the package; other rules keep theirs."""
    old = {card["rule"]: card for card in json.loads(path.read_text(encoding="utf-8"))["cards"]}
    merged = old | {card.rule: _plain(card) for card in new}
    order = [rule.name for rule in RULES]
    kept = sorted((card for card in merged.values() if card["rule"] in order), key=lambda c: order.index(c["rule"]))
    path.write_text(json.dumps({"cards": kept}, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(card: ScoreCard) -> dict:
    def plain(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else "never"
        return value

    return {name: plain(value) for name, value in asdict(card).items()}
