"""What is read of the stored numbers, for verdicts and prose: an arm's ends, its effects, and who spoke."""

from collections.abc import Sequence

import numpy as np

from pitprop.cases._claims import Results
from pitprop.trials.bisection.sequential import share_interval
from pitprop.trials.interval import interval

BACKGROUND_EVERYWHERE = 0.97
"""Background accuracy from which on everything is background, with next to no foreground. A convention."""
NEXT_TO_NONE = 0.05
"""Foreground accuracy under which there is next to none; the margin of the recipe."""


def show(values: Sequence[float]) -> str:
    """Mean and range over the seeds; the mean alone where they are all equal.

    No interval: those of the library are for paired differences, and leave a share's 0 to 1.
    """
    mean, low, high = (f"{f(values):.3g}" for f in (np.mean, np.min, np.max))
    return mean if low == high else f"{mean} ({low} to {high})"


def shift(values: Sequence[float] | np.ndarray) -> str:
    """Mean of paired differences with its 95 % interval."""
    found = interval(np.asarray(values, dtype=float))
    return f"{found.mean:+.3f} [{found.low:.3f}, {found.high:.3f}]"


def end(results: Results, arm: str, metric: str = "fg_accuracy") -> list[float]:
    """A metric of the trained weights at the end, one number per seed."""
    return results["arms"][arm]["raw"][metric]


def effect(results: Results, arm: str, on: str = "effects") -> str:
    """What the trial says of an arm against OLD."""
    found = results[on][arm]
    seeds = len(results["arms"][arm]["seeds"])
    return f"{found['effect']:+.3f} [{found['low']:.3f}, {found['high']:.3f}] ({seeds} seeds), {found['verdict']}"


def verdict(results: Results, arm: str) -> str:
    return results["effects"][arm]["verdict"]


def background_at(results: Results, arm: str) -> np.ndarray:
    """Whether everything was background, seed by evaluation but the first, of the average where there is one; the last
    is of the trained weights, like all accuracies at the end.
    """
    found = results["arms"][arm]
    background, foreground = (
        np.c_[np.array(found[metric], dtype=float)[:, 1:-1], found["raw"][metric]]
        for metric in ("bg_accuracy", "fg_accuracy")
    )
    return (background >= BACKGROUND_EVERYWHERE) & (foreground <= NEXT_TO_NONE)


def stuck(results: Results, arm: str) -> np.ndarray:
    """Whether everything was background at the end, seed by seed."""
    return background_at(results, arm)[:, -1]


def stayed(results: Results, arm: str) -> tuple[int, int]:
    """Runs whose answers were background at the end, and runs."""
    return int(stuck(results, arm).sum()), len(stuck(results, arm))


ENDINGS = ("background everywhere", f"at most {NEXT_TO_NONE:.0%} of the foreground", "more of the foreground")


def endings(results: Results, arm: str) -> list[str]:
    """Which of `ENDINGS` each run came to: the first that holds, by the weights as trained."""
    foreground = end(results, arm)
    return [
        ENDINGS[0] if everywhere else ENDINGS[1] if right <= NEXT_TO_NONE else ENDINGS[2]
        for everywhere, right in zip(stuck(results, arm), foreground, strict=True)
    ]


def told(results: Results, rule: str, ending: str) -> tuple[int, int]:
    """Runs with this ending in which a rule spoke, and runs with it; only those of which the rows were kept."""
    found = [
        rule in alarms
        for arm, of in results["arms"].items()
        for alarms, ended in zip(of["alarms"], endings(results, arm), strict=True)
        if alarms is not None and ended == ending
    ]
    return sum(found), len(found)


def share(num: int, runs: int) -> str:
    """A share of runs with its 95 % interval."""
    low, high = share_interval(num, runs)
    return f"{num} of {runs} ({low:.0%} to {high:.0%})" if runs else "none"


def static(results: Results, group: str, name: str) -> list[float]:
    return results["statics"][group][name]
