"""Designs: which arms to run together, and what they say about each change and each pair of changes.

Pure functions. Single arms and ladders are compared with the control one by one. A factorial runs the changes in
combination, so that every run speaks about every change, and pairs that act only together are seen:

* full: all 2^k combinations; every effect is estimated apart from all others;
* resolution V: main effects and two-way interactions are mixed up (aliased) with interactions of three and more only;
* resolution IV: main effects are, but two-way interactions are aliased with each other.

An effect that is aliased with another is the sum of the two. Fractions are the regular ones of minimum aberration (Box,
Hunter & Hunter, *Statistics for Experimenters*, 1978; the tables of the NIST/SEMATECH e-Handbook, 5.3.3.4.7), with the
signs of their generators chosen so that the combination in which nothing is changed, the control, is always among them.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.candidates import name_of
from pitprop.trials.comparison import compare, holm_confidences
from pitprop.trials.interventions import Intervention, Knob
from pitprop.trials.plan import CONTROL, Arm

MOST = 8
"""Changes in one factorial: 2^8 combinations are 256 runs per seed."""

GENERATORS: dict[tuple[int, int], tuple[str, ...]] = {
    (4, 4): ("ABC",),
    (5, 4): ("ABCD",),
    (5, 5): ("ABCD",),
    (6, 4): ("ABC", "BCD"),
    (6, 5): ("ABCDE",),
    (7, 4): ("ABC", "BCD", "ACD"),
    (7, 5): ("ABCDEF",),
    (8, 4): ("BCD", "ACD", "ABC", "ABD"),
    (8, 5): ("ABCD", "ABEF"),
}
"""(changes, least resolution) -> the columns whose products make the last ones; the smallest regular fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factorial:
    """Combinations of changes: a two-level design, full or a regular fraction."""

    changes: tuple[Intervention, ...]
    """The k changes, the factors A, B, C, ..."""
    levels: tuple[tuple[bool, ...], ...]
    """Which changes are made, by combination; the first combination is the control."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each change."""
        return tuple(map(name_of, self.changes))

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The combinations as arms, without the control, which every trial runs."""
        return tuple(
            Arm(" + ".join(itertools.compress(self.names, row)), tuple(itertools.compress(self.changes, row)))
            for row in self.levels[1:]
        )

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the arms in the order of `levels`, the control first."""
        return (CONTROL, *(arm.name for arm in self.arms))

    @property
    def signs(self) -> Int[ndarray, "run factor"]:
        """+1 where a change is made, -1 where it is not."""
        return np.where(np.array(self.levels), 1, -1)

    @property
    def resolution(self) -> float:
        """Length of the shortest word of factors whose product is the same in every run; infinite for a full design."""
        signs, k = self.signs, len(self.changes)
        for size in range(1, k + 1):
            for word in itertools.combinations(range(k), size):
                if abs(signs[:, word].prod(1).sum()) == len(signs):
                    return size
        return math.inf

    def describe(self) -> str:
        """Kind, size and aliasing, in a sentence."""
        k, runs = len(self.changes), len(self.levels)
        if self.resolution == math.inf:
            return f"Full factorial of {k} changes in {runs} combinations: every effect is told apart from every other."
        mixed = "main effects and two-way interactions are mixed with interactions of three and more only"
        if self.resolution == 4:
            mixed = "main effects are clear of two-way interactions, which are mixed with each other"
        kind = f"resolution {self.resolution}"
        return f"Fractional factorial of {k} changes in {runs} of {2**k} combinations, {kind}: {mixed}."


def single(changes: Iterable[Intervention]) -> tuple[Arm, ...]:
    """One arm for each change, named by it."""
    return tuple(Arm(name_of(change), (change,)) for change in changes)


def ladder(make: Callable[[float], Intervention], values: Iterable[float]) -> tuple[Arm, ...]:
    """One arm for each value of one factor: `ladder(lambda f: Scale("cross_attn", f), (0.1, 0.3, 1))`."""
    return single(make(value) for value in values)


def factorial(changes: Sequence[Intervention], resolution: Literal[4, 5] | None = None) -> Factorial:
    """A factorial design over `changes`.

    Args:
        changes: 2 to 8 changes, each made or not made.
        resolution: Take the smallest regular fraction of at least this resolution; None is the full design. Where no
            smaller one exists (k < 4, or resolution V of 4 changes) it is the full design as well.

    Raises:
        PitpropError: Too few or too many changes, one twice, or two values of one knob.
    """
    changes, k = tuple(changes), len(changes)
    if not 2 <= k <= MOST:
        raise PitpropError(
            f"A factorial of {k} {'change' if k == 1 else 'changes'}.",
            means=f"It combines 2 to {MOST} changes.",
            do="give that many, or run them as single arms.",
        )
    knobs = [change.name for change in changes if isinstance(change, Knob)]
    twice = [change for change in changes if changes.count(change) > 1]
    if twice or len(set(knobs)) < len(knobs):
        what = name_of(twice[0]) if twice else next(name for name in knobs if knobs.count(name) > 1)
        raise PitpropError(
            f"`{what}` is in the factorial twice.",
            means="A factorial makes each change or doesn't; two of one kind can't both be made.",
            do="give each change, and one other value of each knob, once.",
        )
    generators = GENERATORS.get((k, resolution), ()) if resolution else ()
    free = k - len(generators)
    # Standard order, the first factor changing fastest; the first row is all -1.
    basic = np.array(list(itertools.product((-1, 1), repeat=free)))[:, ::-1]
    columns = [basic[:, i] for i in range(free)]
    for word in generators:
        factors = [ord(letter) - ord("A") for letter in word]
        # A relation of odd length is taken with its other sign: then "nothing changed" satisfies it.
        columns.append(basic[:, factors].prod(1) * (-1) ** (len(factors) + 1))
    levels = np.stack(columns, 1) > 0
    return Factorial(changes=changes, levels=tuple(tuple(map(bool, row)) for row in levels))


def effects(
    design: Factorial,
    outcomes: Float[ndarray, "run seed"],
    *,
    seeds: Sequence[int],
    metric: str,
    higher_is_better: bool = True,
    margin: float = 0.0,
    horizon: int = 0,
    plan: str = "",
    confidence: float = 0.95,
) -> tuple[Comparison, ...]:
    """Main effects, then two-way interactions, of a factorial.

    A main effect is the mean over the runs with the change minus the mean over those without it. An interaction `a x b`
    is the mean over the runs with both or neither minus the mean over those with one of them: half of what `a` does
    more where `b` is made. Both are formed seed by seed; the interval is Student's t over the seeds, at levels
    that hold for all effects together (Holm). Aliased two-way interactions are one effect, and each is named.

    Args:
        design: The design.
        outcomes: The metric by combination, in the order of `design.runs`, and seed. A seed at which any combination
            has no finite number has no effects, and is left out by `compare`.
        seeds: Seed of each column.
        metric, higher_is_better, margin, horizon, plan: As for `compare`.
        confidence: Of all effects together.
    """
    signs, names = design.signs, design.names
    terms: dict[tuple[int, ...], list[str]] = {}
    k = len(names)
    for factors in (*((i,) for i in range(k)), *itertools.combinations(range(k), 2)):
        column = tuple(signs[:, factors].prod(1).tolist())
        terms.setdefault(column, []).append(" x ".join(names[i] for i in factors))
    halves = [(_mean(outcomes, column, -1), _mean(outcomes, column, 1)) for column in terms]
    finite = np.isfinite(outcomes).all(0)
    levels = holm_confidences([(after - before)[finite] for before, after in halves], confidence)
    return tuple(
        compare(
            before,
            after,
            arm=words[0],
            changes=" or ".join(words) + (" (aliased: their sum)" if len(words) > 1 else ""),
            seeds=seeds,
            metric=metric,
            higher_is_better=higher_is_better,
            margin=margin,
            horizon=horizon,
            plan=plan,
            confidence=level,
        )
        for words, (before, after), level in zip(terms.values(), halves, levels, strict=True)
    )


def _mean(outcomes: Float[ndarray, "run seed"], column: tuple[int, ...], sign: int) -> Float[ndarray, " seed"]:
    """Mean over the runs at `sign`; NaN where any run of the seed has no finite number."""
    mean = np.where(np.isfinite(outcomes), outcomes, np.nan)[np.array(column) == sign].mean(0)
    return np.where(np.isfinite(outcomes).all(0), mean, np.nan)
