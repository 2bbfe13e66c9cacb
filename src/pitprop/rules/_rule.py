"""The contract of a rule: a frozen dataclass of thresholds with a pure fold over the rows of one site."""

from typing import Any, Protocol

from pitprop.records import Finding, Row


class Rule(Protocol):
    """One failure mode as a pure fold. The engine keeps one state per rule and site.

    `name` reads after the word "allow" (`allow output-duplication`). `reads` names the indicators it needs; the engine
    calls `update` only with rows that hold at least one of them. State is a NamedTuple whose shape never changes, so
    live detection, replay from disk and a resumed run are the same computation.
    """

    @property
    def name(self) -> str: ...

    @property
    def reads(self) -> tuple[str, ...]: ...

    def init(self) -> Any: ...

    def update(self, state: Any, row: Row) -> tuple[Any, Finding | None]: ...
