"""The contract of a rule: a frozen dataclass of thresholds with a pure fold over the rows of one site."""

from typing import Any, ClassVar, Literal, Protocol

from pitprop.records import RUN, Finding, Row, Severity

Shelf = Literal["preview", "stable"]


class Rule(Protocol):
    """One failure mode as a pure fold. The engine keeps one state per rule and site.

    `name` reads after the word "allow" (`allow output-duplication`). `reads` names the indicators it needs; the engine
    calls `update` only with rows that hold at least one of them, and no more after a finding as grave as `severity` at
    that site. Findings no graver than one before at that site aren't reported again.
    State is a NamedTuple whose shape never changes, so live detection, replay from disk and a resumed run are the same
    computation. Thresholds are fields; the facts below are class variables.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    severity: ClassVar[Severity]
    """Gravest severity that its findings have."""
    remedies: ClassVar[tuple[str, ...]]
    """Names of remedies or of interventions worth a trial, best measured first."""
    shelf: ClassVar[Shelf]
    """`stable` once a reproduced case and a score card stand behind it."""
    scale_free: ClassVar[bool]
    """Whether the unit of what it reads (of the loss, of gradients) has no effect."""
    alarms_on_nan: ClassVar[bool]
    """Whether an undefined number is a failure by itself; for every other rule it is no evidence."""

    def init(self) -> Any: ...

    def update(self, state: Any, row: Row) -> tuple[Any, Finding | None]: ...


def at(site: str) -> str:
    """` at SITE` for a message; nothing for the run as a whole, which is no place."""
    return "" if site == RUN else f" at {site}"
