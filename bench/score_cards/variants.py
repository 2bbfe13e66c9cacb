"""What a run is of: a model as it is, a benign variant of it, or one with a fault."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from score_cards.task import Task

Truth = Callable[[Task, list[float]], tuple[float, bool]]
"""Of a finished task and its losses: a number that no rule has seen, and whether it says that the fault took."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """One row of the table of runs; a seed makes a run of it."""

    kind: Literal["healthy", "benign", "fault"]
    name: str
    model: str
    """In `models.MODELS`."""
    knobs: Mapping[str, float] = field(default_factory=dict)
    """Arguments of the model."""
    step: int = 0
    """Step before which `change` is applied."""
    change: Callable[[Task], None] | None = None
    until: int | None = None
    """Step before which `undo` is applied."""
    undo: Callable[[Task], None] | None = None
    rule: str = ""
    """Of a fault: the rule that is for it."""
    truth: Truth | None = None
    """Of a fault."""
    true_of: tuple[str, ...] = ()
    """Rules whose finding here is right although the run is fine; they are left out of the count of false alarms."""

    def start(self) -> Task:
        """The task, drawn from torch's generator."""
        from score_cards.models import MODELS

        return MODELS[self.model](**self.knobs)


def table() -> list[Variant]:
    """Every variant: healthy, benign, faults."""
    from score_cards.benign import BENIGN
    from score_cards.faults import FAULTS
    from score_cards.models import MODELS

    healthy = [Variant(kind="healthy", name=name, model=name) for name in MODELS]
    return [*healthy, *BENIGN, *FAULTS]
