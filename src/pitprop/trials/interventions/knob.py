"""Knob: build the run with another value of one knob."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from pitprop._errors import PitpropError, nearest


@dataclass(frozen=True)
class Knob:
    """The recipe's knob `name` set to `value`; acts before the training is built, so such an arm starts at step 0."""

    name: str
    value: bool | int | float | str | None

    def describe(self) -> str:
        return f"knob {self.name} = {self.value!r}"

    def blames(self) -> str:
        return f"the knob `{self.name}`"

    def knobs(self, knobs: Any) -> Any:
        """`knobs` with the one field replaced."""
        names = [field.name for field in dataclasses.fields(knobs)]
        if self.name not in names:
            raise PitpropError(f"The recipe has no knob `{self.name}`: {nearest(self.name, names)}")
        return dataclasses.replace(knobs, **{self.name: self.value})
