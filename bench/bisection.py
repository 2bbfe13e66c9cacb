"""200 simulated problems: the search of `pitprop bisect` against delta debugging and one change at a time.

    .venv/bin/python bench/bisection.py [--problems 200] [--budget 300]

Prints the table of docs/bisect.md. The numbers are counts and shares: the same on every machine.
"""

import argparse
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from pitprop.trials.bisection.oracle import Oracle, Subset
from pitprop.trials.bisection.search import search

KINDS = ("one", "two together", "two independent", "none")


@dataclass(frozen=True)
class Problem:
    """Changes of which some are guilty; a guilty configuration collapses at rate `rate`, others at rate `false`."""

    kind: str
    names: tuple[str, ...]
    guilty: tuple[Subset, ...]
    """Sets that bring the collapse, each alone."""
    rate: float
    false: float
    by_seed: bool
    """Whether chance belongs to the seed, the same for all configurations, or is drawn for each run."""
    number: int

    def collapses(self, subset: Subset, seed: int) -> bool:
        """One run."""
        who = "" if self.by_seed else "".join(sorted(subset))
        chance = random.Random(f"{self.number} {seed} {who}").random()
        return chance < (self.rate if any(g <= subset for g in self.guilty) else self.false)

    @property
    def curing(self) -> set[Subset]:
        """The minimal sets that meet every guilty one."""
        return {frozenset(choice) for choice in product(*self.guilty)} if self.guilty else set()


@dataclass(frozen=True)
class Answer:
    """What a method says, and what it took."""

    bringing: set[Subset]
    curing: set[Subset]
    runs: int


def problem(number: int, rates: Sequence[float] = (1.0, 0.8, 0.6), false: Sequence[float] = (0.0, 0.05)) -> Problem:
    """Problem number `number`: 8 to 16 changes, the kinds in turn, rates and kind of noise at random."""
    rng = random.Random(number)
    names = tuple(f"c{i:02}" for i in range(rng.randint(8, 16)))
    kind = KINDS[number % len(KINDS)]
    chosen = rng.sample(names, 2)
    guilty = {
        "one": [chosen[:1]],
        "two together": [chosen],
        "two independent": [chosen[:1], chosen[1:]],
        "none": [],
    }[kind]
    rate, mistaken = rng.choice(rates), rng.choice(false)
    return Problem(kind, names, tuple(map(frozenset, guilty)), rate, mistaken, rng.random() < 0.5, number)


def pitprop(p: Problem, budget: int) -> Answer:
    """The search of `pitprop bisect`."""
    oracle = Oracle(lambda s, seeds: [p.collapses(s, seed) for seed in seeds], p.names, budget=budget)
    found = search(oracle)
    bringing, curing = ({frozenset(c.changes) for c in side} for side in (found.bringing, found.curing))
    return Answer(bringing, curing, oracle.used)


def ddmin(p: Problem, budget: int, repeats: int = 1, enough: int = 1) -> Answer:
    """Zeller's ddmin for both questions; `enough` of the `repeats` seeds of a test, the same for all, must collapse."""
    known: dict[Subset, bool] = {}

    def collapses(subset: Subset) -> bool:
        if subset not in known:
            if (len(known) + 1) * repeats > budget:
                raise TimeoutError
            known[subset] = sum(p.collapses(subset, seed) for seed in range(repeats)) >= enough
        return known[subset]

    everything, sides = frozenset(p.names), [set(), set()]
    try:
        if collapses(everything) and not collapses(frozenset()):
            sides[0].add(_ddmin(sorted(everything), collapses))
            sides[1].add(_ddmin(sorted(everything), lambda part: not collapses(everything - part)))
    except TimeoutError:
        pass
    return Answer(sides[0], sides[1], len(known) * repeats)


def _ddmin(items: Sequence[str], fails: Callable[[Subset], bool]) -> Subset:
    parts = 2
    while len(items) > 1:
        bounds = [len(items) * i // parts for i in range(parts + 1)]
        pieces = [items[a:b] for a, b in pairwise(bounds)]
        rests = [[item for item in items if item not in piece] for piece in pieces]
        piece = next((piece for piece in pieces if fails(frozenset(piece))), None)
        rest = next((rest for rest in rests if fails(frozenset(rest))), None) if piece is None else None
        if piece is not None:
            items, parts = piece, 2
        elif rest is not None:
            items, parts = rest, max(parts - 1, 2)
        elif parts < len(items):
            parts = min(2 * parts, len(items))
        else:
            break
    return frozenset(items)


def one_at_a_time(p: Problem, budget: int) -> Answer:
    """Each change alone on good, and alone reversed on bad, at equally many seeds; a majority decides."""
    everything = frozenset(p.names)
    repeats = budget // (2 * len(p.names) + 2)

    def collapses(subset: Subset) -> bool:
        return 2 * sum(p.collapses(subset, seed) for seed in range(repeats)) >= repeats

    used = repeats * (2 * len(p.names) + 2)
    if not collapses(everything) or collapses(frozenset()):
        return Answer(set(), set(), used)
    bringing = {frozenset([name]) for name in p.names if collapses(frozenset([name]))}
    curing = {frozenset([name]) for name in p.names if not collapses(everything - {name})}
    return Answer(bringing, curing, used)


METHODS: dict[str, Callable[[Problem, int], Answer]] = {
    "`pitprop bisect`": pitprop,
    "ddmin, one seed": ddmin,
    "ddmin, 7 seeds a test, 4 must collapse": lambda p, budget: ddmin(p, budget, 7, 4),
    "ddmin, 7 seeds a test, 2 must collapse": lambda p, budget: ddmin(p, budget, 7, 2),
    "one at a time": one_at_a_time,
}


def score(p: Problem, answer: Answer) -> dict[str, float]:
    """Whether every set named is right (and one is named where there is one), and whether an innocent is accused."""
    bring = answer.bringing <= set(p.guilty) and bool(answer.bringing) == bool(p.guilty)
    cure = answer.curing <= p.curing and bool(answer.curing) == bool(p.guilty)
    accused = frozenset().union(*answer.bringing, *answer.curing)
    return {
        "bring": bring,
        "cure": cure,
        "both": bring and cure,
        "all": bring and cure and answer.bringing == set(p.guilty),
        "false": bool(accused - frozenset().union(*p.guilty)),
        "runs": answer.runs,
    }


def table(problems: Iterable[Problem], budget: int) -> dict[str, list[tuple[Problem, dict[str, float]]]]:
    """Method -> each problem with its score."""
    problems = list(problems)
    return {name: [(p, score(p, method(p, budget))) for p in problems] for name, method in METHODS.items()}


def share(rows: Sequence[tuple[Problem, dict[str, float]]], key: str, kind: str | None = None) -> float:
    """Mean of a score, over the problems of one kind or all."""
    values = [scored[key] for p, scored in rows if kind is None or p.kind == kind]
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 0.8, 0.6], help="of guilty configurations")
    parser.add_argument("--false", type=float, nargs="+", default=[0.0, 0.05], help="rates of the others")
    options = parser.parse_args()
    problems = [problem(number, options.rates, options.false) for number in range(options.problems)]
    found = table(problems, options.budget)
    print(f"{options.problems} problems, at most {options.budget} runs each\n")
    heads = ["method", "sets exact", *KINDS, "all bringing sets too", "innocent accused", "runs, mean", "runs, most"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, rows in found.items():
        shares = [
            share(rows, "both"),
            *(share(rows, "both", kind) for kind in KINDS),
            share(rows, "all"),
            share(rows, "false"),
        ]
        most = max(scored["runs"] for _, scored in rows)
        print(f"| {name} | {' | '.join(f'{s:.1%}' for s in shares)} | {share(rows, 'runs'):.0f} | {most:.0f} |")


if __name__ == "__main__":
    main()
