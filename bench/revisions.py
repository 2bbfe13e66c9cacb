"""Simulated histories: the search of `pitprop bisect` over commits against `git bisect` with fixed numbers of seeds.

    .venv/bin/python bench/revisions.py [--histories 200] [--budget 300]

Prints the table of docs/bisect.md. The numbers are counts and shares: the same on every machine.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass

from scipy.stats import binomtest

from pitprop.trials.bisection.halving import halve
from pitprop.trials.bisection.oracle import Oracle


@dataclass(frozen=True)
class History:
    """Commits of which one is guilty; from it on a run collapses at `rate`, before it at `false`."""

    number: int
    commits: int
    guilty: int
    broken: frozenset[int]
    """Commits that cannot be built."""
    rate: float
    false: float
    by_seed: bool
    """Whether chance belongs to the seed, the same for all commits, or is drawn for each run."""

    def collapses(self, commit: int, seed: int) -> bool:
        """One run."""
        chance = random.Random(f"{self.number} {seed} {'' if self.by_seed else commit}").random()
        return chance < (self.rate if commit >= self.guilty else self.false)

    @property
    def answer(self) -> tuple[int, int]:
        """The tightest bracket that can be tested: the last healthy commit and the first that collapses."""
        runs = [n for n in range(self.commits + 1) if n not in self.broken]
        return max(n for n in runs if n < self.guilty), min(n for n in runs if n >= self.guilty)


def history(number: int) -> History:
    """History `number`: 2 to 200 commits, a tenth of them broken in half of the histories."""
    rng = random.Random(number)
    commits = rng.randint(2, 200)
    broken = frozenset(n for n in range(1, commits) if rng.random() < 0.1) if number % 2 else frozenset()
    rate, false = rng.choice((1.0, 0.8, 0.6)), rng.choice((0.0, 0.05))
    return History(number, commits, rng.randint(1, commits), broken, rate, false, rng.random() < 0.5)


def pitprop(h: History, budget: int) -> tuple[tuple[int, int] | None, int]:
    """The bracket that `pitprop bisect` names (None where it refuses or does not finish), and its runs."""
    names = [str(n) for n in range(h.commits)]
    oracle = Oracle(lambda s, seeds: [h.collapses(len(s), seed) for seed in seeds], names, budget=budget)
    found = halve(oracle, lambda commit: commit not in h.broken)
    done = found.ends == "apart" and not found.spent
    return (found.healthy, found.collapsing) if done else None, oracle.used


def by_hand(repeats: int, enough: int) -> Callable[[History, int], tuple[tuple[int, int] | None, int]]:
    """`git bisect` as it is used by hand: `enough` of `repeats` seeds must collapse for a commit to be bad."""

    def method(h: History, budget: int) -> tuple[tuple[int, int] | None, int]:
        left = [n for n in range(h.commits + 1) if n not in h.broken]
        low, high, used = 0, len(left) - 1, 0
        while high - low > 1 and used + repeats <= budget:
            middle = (low + high) // 2
            used += repeats
            bad = sum(h.collapses(left[middle], seed) for seed in range(repeats)) >= enough
            low, high = (low, middle) if bad else (middle, high)
        return (left[low], left[high]), used

    return method


METHODS = {
    "`pitprop bisect`": pitprop,
    "`git bisect`, one seed": by_hand(1, 1),
    "`git bisect`, 7 seeds, 4 must collapse": by_hand(7, 4),
    "`git bisect`, 7 seeds, 2 must collapse": by_hand(7, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--budget", type=int, default=300)
    options = parser.parse_args()
    histories = [history(number) for number in range(options.histories)]
    print(f"{options.histories} histories, at most {options.budget} runs each\n")
    heads = ["method", "exact", "95 % interval", "wrong", "no answer", "runs, mean", "runs, most"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, method in METHODS.items():
        answers = [(h, *method(h, options.budget)) for h in histories]
        exact = sum(found == h.answer for h, found, _ in answers)
        # Wrong: the guilty commit is not in the bracket. A bracket that is right but wider is neither.
        wrong = sum(found is not None and not found[0] < h.guilty <= found[1] for h, found, _ in answers)
        low, high = binomtest(exact, len(answers)).proportion_ci()
        none, runs = sum(found is None for _, found, _ in answers), [used for *_, used in answers]
        print(
            f"| {name} | {exact / len(answers):.1%} | {low:.1%} to {high:.1%} | {wrong / len(answers):.1%} "
            f"| {none / len(answers):.1%} | {sum(runs) / len(runs):.0f} | {max(runs)} |"
        )


if __name__ == "__main__":
    main()
