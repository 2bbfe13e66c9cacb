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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.candidates import name_of
from pitprop.trials.comparison import compare, each_of
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
    inert: Collection[str] = (),
) -> tuple[Comparison, ...]:
    """Main effects, then two-way interactions, of a factorial.

    A main effect is the mean over the runs with the change minus the mean over those without it. An interaction `a x b`
    is the mean over the runs with both or neither minus the mean over those with one of them: half of what `a` does
    more where `b` is made. Both are formed seed by seed. The interval is that of every comparison, Student's t over the
    seeds stretched where the differences are skewed (`interval`), and all effects hold together (`each_of`).
    Aliased effects are one, and each is named.

    A mean over runs of which one has no finite number at a seed is NaN there, and survival is judged as anywhere.
    Where runs die at more than half of the seeds that would undo all effects. So the change that most deaths go along
    with is set aside: the effects of the others are those of the runs without it (with it, where runs die that lack
    it), and say so. Its own is one of survival; its interactions are undefined where runs die on both sides, and say
    that.

    Args:
        design: The design.
        outcomes: The metric by combination, in the order of `design.runs`, and seed.
        seeds: Seed of each column.
        metric, higher_is_better, margin, horizon, plan: As for `compare`.
        confidence: Of all effects together.
        inert: Names of changes that never acted: they have no effects to speak of, and get none.
    """
    fixed = _set_aside(design, np.isfinite(outcomes))
    terms = _terms(design, fixed, inert)
    halves = [(_mean(outcomes, term.signs == -1), _mean(outcomes, term.signs == 1)) for term in terms]
    return tuple(
        compare(
            before,
            after,
            arm=term.name,
            changes=term.describe(),
            seeds=seeds,
            metric=metric,
            higher_is_better=higher_is_better,
            margin=margin,
            horizon=horizon,
            plan=plan,
            confidence=each_of(len(terms), confidence),
        )
        for term, (before, after) in zip(terms, halves, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    """An effect, with every other that can't be told from it."""

    name: str
    signs: Int[ndarray, " run"]
    """+1 and -1 for the two sides that are compared, 0 for a run that is on neither."""
    words: list[str]
    where: str
    """Which runs it is of, or why it is undefined."""

    def describe(self) -> str:
        return " or ".join(self.words) + (" (aliased: their sum)" if len(self.words) > 1 else "") + self.where


def _terms(design: Factorial, fixed: Mapping[int, bool], inert: Collection[str]) -> list[_Term]:
    """Main effects and two-way interactions, one for each contrast that differs from the others."""
    signs, names, levels = design.signs, design.names, np.array(design.levels)
    terms: dict[tuple[int, ...], _Term] = {}
    active = [i for i in range(len(names)) if names[i] not in inert]
    for factors in (*((i,) for i in active), *itertools.combinations(active, 2)):
        name = " x ".join(names[i] for i in factors)
        others = {i: made for i, made in fixed.items() if i not in factors}
        left = np.logical_and.reduce([levels[:, i] == made for i, made in others.items()], initial=True, axis=0)
        column = signs[:, factors].prod(1) * left
        kept = " and ".join(f"{names[i]} is {'made' if made else 'not made'}" for i, made in others.items())
        where = f" (where {kept})" if kept else ""
        if len(factors) == 2 and not fixed.keys().isdisjoint(factors):
            where = f" (undefined where runs die with and without {name})"
        elif abs(column.sum()) == left.sum():
            where = f" (undefined: all runs where {kept} are on one side)"
        if same := terms.get(tuple(column)):
            same.words.append(name)
        elif opposite := terms.get(tuple(-column)):
            opposite.words.append(f"minus {name}")
        else:
            terms[tuple(column)] = _Term(name=name, signs=column, words=[name], where=where)
    return list(terms.values())


def _set_aside(design: Factorial, alive: Bool[ndarray, "run seed"]) -> dict[int, bool]:
    """Changes to be set aside, until half of the seeds have a number in every run that is left; and how each is kept.

    The one that most of the missing numbers go along with is first.
    """
    levels, left = np.array(design.levels), np.ones(len(alive), bool)
    fixed: dict[int, bool] = {}
    while 2 * alive[left].all(0).sum() < alive.shape[1]:
        dead = (~alive[left]).sum(1) @ np.where(levels[left], 1, -1)
        dead[list(fixed)] = 0
        worst = int(abs(dead).argmax())
        if not dead[worst]:
            break  # what is missing goes along with no change
        fixed[worst] = bool(dead[worst] < 0)
        left &= levels[:, worst] == fixed[worst]
    return fixed


def _mean(outcomes: Float[ndarray, "run seed"], runs: Bool[ndarray, " run"]) -> Float[ndarray, " seed"]:
    """Mean over `runs`; NaN where there is none, or any of them has no finite number at the seed."""
    if not runs.any():
        return np.full(outcomes.shape[1], np.nan)
    return np.where(np.isfinite(outcomes), outcomes, np.nan)[runs].mean(0)
