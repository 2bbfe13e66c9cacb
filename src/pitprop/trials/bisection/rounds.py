"""The rounds of a bisection that need runs: the end points before the search, the confirmation after it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pitprop._errors import PitpropError, nearest
from pitprop.records import Comparison
from pitprop.trials.bisection.answer import arm_name
from pitprop.trials.bisection.endpoints import CONFIDENCE, LOOKS, Cut, cut_between
from pitprop.trials.bisection.oracle import Runs, Subset
from pitprop.trials.bisection.search import Ends, Found
from pitprop.trials.comparison import compare, each_of
from pitprop.trials.execute import metric_of, run_specs
from pitprop.trials.executors import Executor
from pitprop.trials.progress import OnRun
from pitprop.trials.run import RunSpec

CONFIRM_SEEDS = tuple(range(1000, 1008))
"""Fresh seeds of the confirming round; the search counts its seeds from 0 and never gets there."""

CONFIRM_ARMS = 6
"""Arms whose confirming runs are kept back from the search, unless that is over a quarter of what the ends leave."""


class Searched(Protocol):
    """What is searched over: changes of a configuration, modules, or commits."""

    @property
    def values(self) -> Mapping[str, tuple[str, str]]:
        """Every change by name, in order, with what is so without it and with it."""
        ...

    def spec(self, subset: Subset, seed: int) -> RunSpec:
        """The run of good with the changes in `subset`."""
        ...

    def words(self, start: Subset, end: Subset) -> str:
        """What changes from one subset to another."""
        ...


class Judged(Protocol):
    """What a recipe says of how its runs are judged."""

    @property
    def metric(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def margin(self) -> float: ...
    @property
    def steps(self) -> int: ...


class Runner:
    """Runs subsets of the changes, and counts what was asked for."""

    def __init__(self, changes: Searched, metric: str, folder: Path, executor: Executor, on_run: OnRun):
        self.changes, self.metric = changes, metric
        self._folder, self._executor, self._on_run = folder, executor, on_run
        self._records: dict[str, dict[str, Any]] = {}
        self._asked: dict[Subset, dict[int, str]] = {}

    @property
    def used(self) -> int:
        """Different runs so far."""
        return len(self._records)

    @property
    def everything(self) -> Subset:
        """The bad end."""
        return frozenset(self.changes.values)

    def missing(self, subsets: Sequence[Subset], seeds: Sequence[int]) -> int:
        """Runs that were not asked for yet."""
        addresses = {self.changes.spec(subset, seed).address for subset in subsets for seed in seeds}
        return len(addresses - set(self._records))

    def metrics(self, subsets: Sequence[Subset], seeds: Sequence[int]) -> list[list[float | None]]:
        """The metric by subset and seed; None for a run that failed, NaN or infinity for one that diverged."""
        specs = [[self.changes.spec(subset, seed) for seed in seeds] for subset in subsets]
        for subset, row in zip(subsets, specs, strict=True):
            self._asked.setdefault(subset, {}).update({spec.seed: spec.address for spec in row})
        new = {s.address: s for row in specs for s in row if s.address not in self._records}
        self._records |= run_specs(list(new.values()), self._folder, self._executor, self._on_run)
        return [[self._value(self._records[s.address]) for s in row] for row in specs]

    def collapses(self, cut: Cut) -> Runs:
        """The oracle's question, answered by runs."""

        def runs(subset: Subset, seeds: Sequence[int]) -> list[bool | None]:
            (values,) = self.metrics([subset], seeds)
            return [None if value is None else cut.collapsed(value) for value in values]

        return runs

    def records(self, subset: Subset) -> dict[int, Mapping[str, Any]]:
        """The records of `subset` so far, by seed."""
        return {seed: self._records[address] for seed, address in sorted(self._asked.get(subset, {}).items())}

    def failed(self) -> tuple[Mapping[str, Any], ...]:
        """Runs without a result: changes, seed, error."""
        records = [record for record in self._records.values() if record["status"] == "failed"]
        return tuple({key: record[key] for key in ("changes", "seed", "error")} for record in records)

    def _value(self, record: Mapping[str, Any]) -> float | None:
        if record["status"] == "failed":
            return None
        if self.metric not in record["metrics"]:
            raise PitpropError(f"`evaluate()` returned no `{self.metric}`: {nearest(self.metric, record['metrics'])}")
        return metric_of(record, self.metric)


def run_ends(runner: Runner, recipe: Judged, budget: int) -> tuple[Comparison, Cut | None, Found]:
    """Compare the end points, at more seeds where the first do not settle it.

    Returns:
        Bad against good; the cut, where they are apart; and what was found, where they are not.

    Raises:
        PitpropError: Half of the runs of an end point failed.
    """
    ends = _look(runner, recipe, LOOKS[0])
    # "worse" without a cut is worse by less than the margin, perhaps.
    if ends.verdict in ("inconclusive", "worse") and cut_between(ends) is None and 2 * LOOKS[1] <= budget:
        ends = _look(runner, recipe, LOOKS[1])
    names: dict[str, Ends] = {"better": "bad is better", "no difference within margin": "no difference"}
    return ends, cut_between(ends), Found(ends=names.get(ends.verdict, "inconclusive"))


def _look(runner: Runner, recipe: Judged, count: int) -> Comparison:
    """Bad against good at the first `count` seeds, less those at which either failed."""
    good, bad = runner.metrics([frozenset(), runner.everything], range(count))
    for name, values in (("good", good), ("bad", bad)):
        if 2 * values.count(None) >= count:
            raise PitpropError(
                f"The {name} end failed at {values.count(None)} of {count} seeds: {runner.failed()[0]['error']}",
                means="There is no end point to search from.",
                do="make both of them run to their end; `workers.log` in the folder has the whole error.",
            )
    ended = [(s, a, b) for s, (a, b) in enumerate(zip(good, bad, strict=True)) if a is not None and b is not None]
    seeds, before, after = zip(*ended, strict=True) if ended else ((), (), ())
    own = runner.metric == recipe.metric
    return compare(
        before,
        after,
        arm="bad",
        changes=runner.changes.words(frozenset(), runner.everything),
        seeds=seeds,
        metric=runner.metric,
        # Another metric than the recipe's has no stated direction: good is what it improves towards.
        higher_is_better=recipe.higher_is_better if own else _mean(before) > _mean(after),
        margin=recipe.margin if own else 0.0,
        horizon=recipe.steps,
        confidence=CONFIDENCE,
    )


def confirm_sets(
    runner: Runner, found: Found, ends: Comparison, plan: str, budget: int
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Compare every set that was found on fresh seeds, as far as the budget goes; see `confirm`.

    Good with each bringing set is compared with good, bad without each curing set with bad, and, for a bringing set of
    several changes, the set without each of them with the set.
    """
    good, bad = frozenset(), runner.everything
    sides = [(arm_name("good +", c.changes), good, frozenset(c.changes)) for c in found.bringing]
    sides += [(arm_name("bad -", c.changes), bad, bad - set(c.changes)) for c in found.curing]
    sides += [
        (arm_name("good +", c.changes, name), frozenset(c.changes), frozenset(c.changes) - {name})
        for c in found.bringing
        if c.minimal and len(c.changes) > 1
        for name in c.changes
    ]
    return confirm(runner, sides, ends, plan, budget)


def confirm(
    runner: Runner, sides: Sequence[tuple[str, Subset, Subset]], ends: Comparison, plan: str, budget: int
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Compare the two subsets of each side, (name of the arm, control, treated), on fresh seeds.

    Returns:
        The comparisons, whose intervals hold together at 95 %; and a sentence for each that the budget left out.
    """
    done, left, pairs = [], [], []
    for name, control, treated in sides:
        if runner.used + runner.missing([control, treated], CONFIRM_SEEDS) > budget:
            left.append(f"The budget ended before {name} could be confirmed on fresh seeds.")
            continue
        values = runner.metrics([control, treated], CONFIRM_SEEDS)
        pairs.append([[math.nan if v is None else v for v in row] for row in values])
        done.append((name, control, treated))
    comparisons = [
        compare(
            *pair,
            arm=name,
            changes=runner.changes.words(control, treated),
            seeds=CONFIRM_SEEDS,
            metric=ends.metric,
            higher_is_better=ends.higher_is_better,
            margin=ends.margin,
            horizon=ends.horizon,
            plan=plan,
            confidence=each_of(len(done)),
        )
        for (name, control, treated), pair in zip(done, pairs, strict=True)
    ]
    return tuple(comparisons), tuple(left)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
