"""SwapData: the same start, another order of the data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.fork import kept_rng
from pitprop.trials.interventions._targets import Applied


@dataclass(frozen=True)
class SwapData:
    """From the fork on, the batches of the training that the recipe builds at `seed`; all else stays the run's own.

    It separates what the data order does from what the initialisation does. The second training is built for its
    batches only, so it needs its memory.
    """

    seed: int

    def describe(self) -> str:
        return f"batches of seed {self.seed} from the fork on"

    def blames(self) -> str:
        return "the data that the run saw, or their order"

    def bind(self, build: Callable[[int], Any], seed: int) -> "_Bound":
        """This change for the run at `seed`; `build(seed)` makes the recipe's training."""
        if seed == self.seed:
            raise PitpropError(
                f"SwapData({self.seed}) gives the run at seed {seed} its own batches.",
                means="The arm would be another control there.",
                do="name a seed that the trial does not use.",
            )
        return _Bound(self, build)


@dataclass(frozen=True)
class _Bound:
    change: SwapData
    build: Callable[[int], Any]

    def describe(self) -> str:
        return self.change.describe()

    def apply(self, training: Any) -> Applied:
        applied = Applied(("batches",))
        with kept_rng():
            other = self.build(self.change.seed)

        def batches(cursor: int):
            applied.calls["batches"] += 1
            return other.batches(cursor)

        training.batches = batches
        return applied
