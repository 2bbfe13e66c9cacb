"""A share of units or weights that is a majority: from the first row on, or since it rose there."""

import math
from typing import NamedTuple

from pitprop.rules._online import (
    NAN,
    PATIENCE,
    TRANSIENT,
    Persistence,
    Shift,
    follow,
    lasting,
    new_shift,
    persist,
    shifted,
    since_start,
)

MAJORITY = 0.5
"""A convention, far from the few per cent of a healthy start."""


class State(NamedTuple):
    """Persistence over the majority, and the shift against the warm-up."""

    level: Persistence
    shift: Shift


class Seen(NamedTuple):
    """A share that is a majority."""

    from_start: bool
    """Whether it was one in every row there was."""
    onset: int
    since: str
    """In words."""
    reference: float
    """Median of the warm-up; NaN before it is full."""
    log_evidence: float
    """Of the shift; NaN where the share was a majority from the start."""


def new_state() -> State:
    return State(Persistence(), new_shift())


def watch_share(
    state: State,
    step: int,
    share: float,
    *,
    majority: float = MAJORITY,
    patience: int = PATIENCE,
    transient: int = TRANSIENT,
) -> tuple[State, Seen | None]:
    """`state` after one more row, and what is to be said. An undefined share changes nothing."""
    if math.isnan(share):
        return state, None
    reference = state.shift.reference.centre
    state = State(
        persist(state.level, step, share > majority),
        follow(state.shift, step, share, span=majority - reference),
    )
    if since_start(state.level) and lasting(state.level, patience, transient):
        return state, Seen(True, state.level.onset, "since the first row", NAN, NAN)
    if shifted(state.shift, patience):
        onset, log_sum = state.shift.evidence.onset, state.shift.evidence.log_sum
        return state, Seen(False, onset, f"since step {onset} (warm-up: {reference:.0%})", reference, log_sum)
    return state, None
