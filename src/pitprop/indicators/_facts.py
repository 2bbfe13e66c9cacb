"""What stands beside each indicator: its unit, range, cost, invariances and value at a healthy initialisation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Cost = Literal["C0", "C1", "C2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """A pure measure (array in, number out) together with its declared facts, which tests hold it to."""

    function: Callable
    """The measure itself; its `__name__` is the indicator's name in traces."""
    unit: str
    """Unit, or `1` for a pure number."""
    low: float = -math.inf
    """Smallest value it can take."""
    high: float = math.inf
    """Largest value it can take."""
    cost: Cost
    """C0: scalars already at hand; C1: one extra reduction over a tensor; C2: an extra pass every few steps."""
    invariances: tuple[str, ...] = ()
    """Transformations of the input that leave it unchanged, by the names that the property tests know."""
    at_initialisation: str
    """Value at a healthy random initialisation, in words or numbers, and where that comes from."""

    @property
    def name(self) -> str:
        """Name in traces and on the command line."""
        return self.function.__name__
