"""Runs that die: at how many seeds only one side has a finite metric, and when that is no chance any more.

Everything here holds under one null: at a seed, given the seeds before it, both runs die with the same chance d, which
may be another one at every seed, and the death of one is no reason for the other to live. So "only the treated dies"
(lost) and "only the control dies" (saved) have the same chance x <= d (1 - d) <= 1/4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pitprop.records import Verdict

LOST, SAVED, SAME = 3.5, 0.1, 0.2
"""Factors by which a seed multiplies the evidence that an arm loses runs."""

PART = 0.5
"""Part of a verdict's error that survival may spend; the interval has the rest, for it may then speak on one side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """At how many seeds each side has a finite metric."""

    control: int
    treated: int
    seeds: int
    saved: int
    """Seeds at which only the treated side is finite."""
    lost: int
    """Seeds at which only the control is."""

    @property
    def p_saved(self) -> float:
        """Exact one-sided p-value, of a number of seeds fixed beforehand, that the treatment saves runs.

        Saved less lost has its heaviest tail where every chance is 1/2 (Birnbaum's peakedness, 1948), and is there a
        binomial of 2 x seeds coins.
        """
        return _tail(self.seeds + self.saved - self.lost, 2 * self.seeds)

    @property
    def p_lost(self) -> float:
        """The same for losing runs."""
        return _tail(self.seeds + self.lost - self.saved, 2 * self.seeds)

    @property
    def evidence_lost(self) -> float:
        """Evidence that the treatment loses runs, good at whatever seed it is looked at: an e-process, 1 at no seed.

        Each seed multiplies it by 3.5 where the run is lost, by .1 where it is saved, by .2 where both live or both
        die. Under the null the expectation of that factor, given the seeds before, is

            3.5 x + .1 x + .2 (1 - 2 x) = .2 + 3.2 x <= .2 + 3.2 / 4 = 1,

        so that the product is a non-negative supermartingale that starts at 1, and by Ville's inequality it ever
        reaches 1 / alpha with chance alpha at most, however many seeds there will be. The same holds where the treated
        run dies less often than the control's: with chances t <= c it is
        .2 + 3.3 (1 - c) t - .1 c (1 - t), which grows with t, and is the above at t = c.

        No process of this null can grow faster than by 4 a seed (x = 1/4). An arm that always dies beside a control
        that never does reaches 400 at 5 seeds, 1600 at 6, 4800 at 7; at 4 a seed it would be 5, 6 and 7 as well.

        Source: J. Ville, Étude critique de la notion de collectif (1939); Ramdas, Grünwald, Vovk and Shafer,
        "Game-theoretic statistics and safe anytime-valid inference", arXiv 2210.01948.
        """
        return LOST**self.lost * SAVED**self.saved * SAME ** (self.seeds - self.lost - self.saved)

    def shows(self, confidence: float, *, stopped: bool = False) -> Literal["better", "worse"] | None:
        """What survival shows by itself, beside an interval of `confidence`; None where it shows nothing.

        Args:
            confidence: Of the interval. Survival may err with `PART` of what the interval may, on both sides together.
            stopped: Whether the number of seeds was chosen by looking. Only "worse" can be shown then, by the evidence.
        """
        alpha = PART * (1 - confidence)
        if stopped:
            return "worse" if alpha * self.evidence_lost >= 1 else None
        return "better" if self.p_saved <= alpha / 2 else "worse" if self.p_lost <= alpha / 2 else None

    @property
    def words(self) -> str:
        """Both counts: `finite at 5 of 5 seeds, the control at 0`."""
        return f"finite at {self.treated} of {self.seeds} seeds, the control at {self.control}"


def survival(
    control: Float[ndarray, " seed"] | Sequence[float], treated: Float[ndarray, " seed"] | Sequence[float]
) -> Survival:
    """Count the seeds at which either side has a finite metric."""
    before, after = np.isfinite(np.asarray(control)), np.isfinite(np.asarray(treated))
    return Survival(
        control=int(before.sum()),
        treated=int(after.sum()),
        seeds=len(before),
        saved=int((after & ~before).sum()),
        lost=int((before & ~after).sum()),
    )


def verdict_of_all(alive: Survival, finite: Verdict, confidence: float = 0.95, *, stopped: bool = False) -> Verdict:
    """The verdict over all seeds: survival first, then `finite`, the one over the seeds where both sides are finite.

    Where survival shows nothing by itself (`Survival.shows`), such seeds forbid what they contradict: an arm that loses
    more runs than it saves is never "better", one that saves more never "worse", and only one that does neither makes
    "no difference". So where survival has something to say the interval may speak on one of its sides only, and both
    together err no more than the interval alone may; design note 002 has the bound and the measurements.
    """
    if alive.saved == alive.lost == 0:
        return finite
    if shown := alive.shows(confidence, stopped=stopped):
        return shown
    agrees = (finite == "better" and alive.saved >= alive.lost) or (finite == "worse" and alive.lost >= alive.saved)
    return finite if agrees else "inconclusive"


def seeds_to_show(alive: Survival, confidence: float, most: int) -> int | None:
    """Seeds in all at which survival would show something, were they like these; None beyond `most`."""
    from scipy.stats import binom

    ahead = abs(alive.saved - alive.lost)
    if not ahead:
        return None
    counts = np.arange(alive.seeds + 1, most + 1)
    heads = counts + ahead * counts // alive.seeds
    enough = counts[binom.sf(heads - 1, 2 * counts, 0.5) <= PART * (1 - confidence) / 2]
    return int(enough[0]) if len(enough) else None


def _tail(heads: int, flips: int) -> float:
    return sum(math.comb(flips, k) for k in range(heads, flips + 1)) / 2**flips
