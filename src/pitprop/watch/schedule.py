"""Which steps are measured: dense at first, then every ten, stretched so that watching stays inside its budget.

The cost of a measured step is estimated live, without asking the accelerator anything: pitprop's own work between two
steps is timed directly, and what measuring adds inside a step is the difference of two medians, measured against
plain steps, so that one hiccup of the machine does not count. A budget never leaves a run unseen: the rules need rows,
so the first 60 measured steps may cost a second together, and while one costs under 20 ms, later ones come at least
each time the run has become a tenth longer. Under a budget the choice of steps therefore depends on the wall clock: two
runs may be measured at different steps, never with different results. `every=k, budget=None` is deterministic.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable

from pitprop._errors import PitpropError

BASE = 10
"""Largest gap between measured steps that the automatic schedule aims at."""

CALIBRATION = 3
"""Measured, and plain, steps that are needed before the cost of one can be told; their cost is always accepted."""

MINIMUM, MINIMUM_S = 60, 1.0
"""Measured steps that the budget doesn't stretch (most rules need 40) while they cost under these seconds together."""

TENTH, CHEAP_S = 10, 0.02
"""No gap is over a tenth of the run while a measured step costs less than these seconds: a fast loop stays seen."""

HORIZON, HORIZON_S = 200, 30.0
"""Steps, and seconds, whose budget may be spent at once, so that the beginning can be watched closely."""


class Schedule:
    """Decides, at its beginning, whether a step is measured, and keeps account of what measuring costs.

    Call `decide` when a step begins and `finish` when its optimizer has stepped; wrap pitprop's own work between
    steps in `begin_work` and `end_work`.

    Args:
        every: Measure every n-th step; None measures densely at first and then every ten. The first step is always
            measured. The budget may stretch either, after 60 measured steps or a second of their cost.
        budget: Largest share of the loop's time that watching may take, from 0 to 1; None is unlimited. What it allows
            over the first 200 steps or 30 s, whichever is longer, may be spent at once.
        clock: Monotonic seconds.

    Raises:
        PitpropError: `every` is under 1, or `budget` is not in (0, 1].
    """

    def __init__(
        self, every: int | None = None, budget: float | None = 0.02, *, clock: Callable[[], float] = time.perf_counter
    ):
        if every is not None and every < 1:
            raise PitpropError(
                f"every={every!r}", means="A step is measured every `every` steps.", do="Pass 1 or more, or None."
            )
        if budget is not None and not 0 < budget <= 1:
            raise PitpropError(
                f"budget={budget!r}",
                means="The budget is the share of the loop's time that watching may take.",
                do="Pass a number above 0 and up to 1 (0.02 is 2 %), or None for no limit.",
            )
        self.every, self.budget, self.clock = every, budget, clock
        self.num_steps = 0
        self.num_sampled = 0
        self.own_s = 0.0
        self._inside_s = 0.0
        self._sampled_s: deque[float] = deque(maxlen=9)
        self._plain_s: deque[float] = deque(maxlen=65)
        self._first: int | None = None
        self._last: int | None = None
        self._sampling = False
        self._started = self._mark = self._work = clock()

    def decide(self, step: int) -> bool:
        """Whether `step`, which begins now, is measured."""
        if self._first is None:
            self._first = step
        self._sampling = self._due(step) and self._affordable(step)
        if self._sampling:
            self._last = step
        return self._sampling

    def begin_work(self) -> None:
        """pitprop starts to work between two steps."""
        self._work = self.clock()
        self._inside_s += self._work - self._mark

    def end_work(self) -> None:
        """pitprop hands back to the loop."""
        self._mark = self.clock()
        self.own_s += self._mark - self._work

    def finish(self) -> None:
        """The running step ended when the work that is going on began."""
        (self._sampled_s if self._sampling else self._plain_s).append(self._inside_s)
        self._inside_s = 0.0
        self.num_steps += 1
        self.num_sampled += self._sampling

    def affords(self, seconds: float) -> bool:
        """Whether `seconds` of other work, all of it so far and the next, fit into half of the budget.

        The other half is to measure. What measuring took does not count: it may begin by taking more than its half.
        """
        if self.budget is None:
            return True
        return seconds <= 0.5 * self.budget * max(self._mark - self._started, HORIZON_S)

    @property
    def surplus_s(self) -> float | None:
        """Seconds that measuring adds inside a step; None while too few steps of either kind are known."""
        if min(len(self._sampled_s), len(self._plain_s)) < CALIBRATION:
            return None
        return max(0.0, statistics.median(self._sampled_s) - statistics.median(self._plain_s))

    @property
    def share(self) -> float | None:
        """Share of the loop's time that watching took so far; None while it cannot be told."""
        elapsed = self._mark - self._started
        surplus = self.surplus_s
        return None if surplus is None or elapsed <= 0 else (self.own_s + self.num_sampled * surplus) / elapsed

    def describe(self) -> dict:
        """What was asked for, what was done and what it cost, as JSON values."""
        return {
            "every": self.every,
            "budget": self.budget,
            "num_steps": self.num_steps,
            "num_sampled": self.num_sampled,
            "share": self.share,
            "surplus_s": self.surplus_s,
            "own_s": self.own_s,
        }

    def _due(self, step: int) -> bool:
        if self._last is None or self._first is None:
            return True
        ran = self._last - self._first
        gap = self.every if self.every is not None else min(BASE, max(1, ran // 3))
        return step - self._last >= gap

    def _affordable(self, step: int) -> bool:
        if self.budget is None or self.num_sampled < CALIBRATION:
            return True
        surplus = self.surplus_s
        late = step - (self._last or 0) >= (step - (self._first or 0)) / TENTH
        if surplus is None:
            # Without plain steps there is nothing to compare with: every second step stays plain until there is.
            return step - (self._last or 0) > 1
        spent = self.own_s + self.num_sampled * surplus
        once = surplus + self.own_s / self.num_sampled
        if (late and once < CHEAP_S) or (self.num_sampled < MINIMUM and spent < MINIMUM_S):
            return True
        plain = statistics.median(self._plain_s)
        spread_over = max(self._mark - self._started, HORIZON * plain, HORIZON_S)
        return spent + once <= self.budget * spread_over
