"""What `pitprop.gradient_share` found, as a value: two norms per batch, their ratio with its interval, its factors.

Pure: no framework. A ratio is compared on its logarithm, where twice and half are equally far from 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pitprop.trials.interval import interval
from pitprop.trials.trial_file import json_ready

DILUTION, GAIN, GROWTH, REST = "norm dilution", "query-path gain", "input growth", "rest"

Position = Literal["before", "behind", "both", "unseen"]
ShareVerdict = Literal["smaller", "larger", "no difference within margin", "inconclusive", "undefined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Geometric mean over batches of a ratio of two positive numbers, with its interval."""

    mean: float
    low: float
    high: float
    """NaN, as `mean` and `low` are, where the ratio is undefined (0, infinite or NaN) in any batch."""

    def __str__(self) -> str:
        return "undefined" if math.isnan(self.mean) else f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def ratio_of(ratios: Sequence[float], confidence: float) -> Ratio:
    """The mean ratio, with the paired interval of its logarithm."""
    values = np.asarray(ratios, dtype=np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        return Ratio(mean=math.nan, low=math.nan, high=math.nan)
    found = interval(np.log(values), confidence)
    return Ratio(mean=math.exp(found.mean), low=math.exp(found.low), high=math.exp(found.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientShare:
    """The gradient at one module with and without another, batch by batch. It prints as a text."""

    at: str
    """Path of the module whose parameters' gradient was measured."""
    without: str
    """Path of the module that was taken away."""
    seed: int
    """Random numbers of batch `i` are those of `seed + i`, with and without the module."""
    confidence: float
    """Nominal coverage of each interval, over batches, at this one state of the weights."""
    margin: float
    """Ratios from 1 / (1 + margin) to 1 + margin count as no difference; fixed before the measurement."""
    with_norms: tuple[float, ...]
    """Norm of the gradient at `at` with the module, one per batch."""
    without_norms: tuple[float, ...]
    """The same without it."""
    ratio: Ratio
    """With over without, batch by batch."""
    position: Position
    """Whether `at` runs before what `without` says is added to the stream, behind it, on both sides of it, or whether
    no such addition was seen.
    """
    factors: Mapping[str, Ratio]
    """What the ratio is made of; their product is the ratio, batch by batch. `before` the addition: norm dilution
    (|x| / |x + b|), query-path gain (gradient at x over gradient behind the addition), rest. `behind` it: growth of the
    input of `at`, rest. Otherwise empty.
    """
    branch_ratio: Ratio
    """Length of the branch over that of its stream, |b| / |x|; undefined where no addition was seen."""

    @property
    def num(self) -> int:
        """Batches measured."""
        return len(self.with_norms)

    @property
    def verdict(self) -> ShareVerdict:
        """What interval and margin allow to be said, asked in the order of `docs/verdicts.md`."""
        low, high = self.ratio.low, self.ratio.high
        if math.isnan(self.ratio.mean):
            return "undefined"
        if 1 / (1 + self.margin) < low and high < 1 + self.margin:
            return "no difference within margin"
        return "smaller" if high < 1 else "larger" if low > 1 else "inconclusive"

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with "nan" for NaN; the text as `statement`."""
        return json_ready(asdict(self) | {"num": self.num, "verdict": self.verdict, "statement": str(self)})

    def __str__(self) -> str:
        name = f"gradient at {self.at} with {self.without}, over without"
        lines = [
            f"{name}: {self.ratio}, {self.verdict}",
            f"  {self.num} batches, seed {self.seed}, one state of the weights; intervals at {self.confidence:.0%}",
            f"  norm with     {_spread(self.with_norms)}",
            f"  norm without  {_spread(self.without_norms)}",
            f"  single batches {_single(self.with_norms, self.without_norms)}",
            f"  branch over stream  {self.branch_ratio}",
            f"  {_PLACES[self.position].format(at=self.at, without=self.without)}",
            *(f"    {factor:16} {ratio}" for factor, ratio in self.factors.items()),
            f"  {_MEANINGS[self.verdict].format(at=self.at, without=self.without)}",
            f"  This measures one state and names no cause: Adam doesn't see a constant factor. Whether {self.without} "
            f"hinders the training, a trial can tell: pitprop trial RECIPE --ablate {self.without}",
        ]
        return "\n".join(lines)


_PLACES: Mapping[Position, str] = {
    "before": "{at} runs before the addition. An addition hands its gradient on whole; what changes is:",
    "behind": "{at} runs behind the addition: the branch is in what it reads, and not on its gradient's way.",
    "both": "{at} runs on both sides of the addition; measure the parts one by one to have their factors.",
    "unseen": "no addition of {without} to a stream (of three axes or more) was seen, so there are no factors.",
}

_MEANINGS: Mapping[ShareVerdict, str] = {
    "smaller": "With {without} less gradient arrives at {at}, by more than the choice of batches explains.",
    "larger": "With {without} more gradient arrives at {at}, by more than the choice of batches explains.",
    "no difference within margin": "{without} changes the gradient at {at} by less than was said to matter.",
    "inconclusive": "The batches don't tell whether {without} changes the gradient at {at}; take more of them.",
    "undefined": "In some batch the gradient at {at} is 0 or not finite on one side, so there is no ratio.",
}


def _spread(norms: Sequence[float]) -> str:
    return f"mean {np.mean(norms):.4g}, least {min(norms):.4g}, most {max(norms):.4g}"


def _single(with_norms: Sequence[float], without_norms: Sequence[float]) -> str:
    with np.errstate(divide="ignore", invalid="ignore"):
        paired = np.divide(with_norms, without_norms)
        unpaired = np.divide((min(with_norms), max(with_norms)), (max(without_norms), min(without_norms)))
    return (
        f"would have said anything from {paired.min():.3g} to {paired.max():.3g}, and unpaired ones from "
        f"{unpaired[0]:.3g} to {unpaired[1]:.3g}"
    )
