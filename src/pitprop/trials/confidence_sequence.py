"""An anytime-valid confidence sequence of a mean paired difference: intervals that all hold together, seed after seed.

To look after every seed, and stop when an ordinary interval is clear, errs far more often than the interval says. Here
the interval after n pairs is `interval` at the level 1 - alpha w(n), with w(n) = 3 / (n (n - 1)) from the fourth pair
on. These weights add up to 1, so by the union bound all of the intervals together hold the true mean at the level
1 - alpha, however many there will be, and so does the one at which somebody stops, whatever made him stop. What n pairs
say does not depend on how many were planned: a trial that is taken up again with more seeds has stopped the same arms.

Design note 003 compares it with the mixture sequence for Gaussian differences of unknown variance (Lai 1976; Wang and
Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance", arXiv 2310.03722) and
with the self-normalised one for symmetric differences (de la Pena, Ann. Probab. 27, 1999).
"""

import math

from jaxtyping import Float
from numpy import ndarray

from pitprop.trials.interval import Effect, interval

FIRST = 4
"""Pairs from which on the sequence says anything: fewer show no spread."""


def level(count: int, confidence: float) -> float:
    """Confidence of the interval after `count` pairs, in a sequence that holds as a whole at `confidence`."""
    return 1 - (1 - confidence) * (FIRST - 1) / (count * (count - 1))


def interval_at(differences: Float[ndarray, " seed"], confidence: float) -> Effect:
    """The interval after these pairs, of a sequence that holds as a whole at `confidence`.

    Its ends are NaN under `FIRST` pairs, its mean under two, as that of `interval` is.
    """
    count = len(differences)
    if count < FIRST:
        return Effect(mean=float(differences.mean()) if count > 1 else math.nan, low=math.nan, high=math.nan)
    return interval(differences, level(count, confidence))
