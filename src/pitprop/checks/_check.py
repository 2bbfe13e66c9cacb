"""The contract of a check: one question about a model, answered before training."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pitprop.records import Finding

LossFn = Callable[[Any, Any], Any]
"""`loss_fn(model, batch)`: one forward pass, for batches that the model doesn't take as they are."""


class Check(Protocol):
    """One question about a model. It leaves the model, its buffers and every random state as they were."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """What must be given besides the model: any of `batch`, `optimizer`."""

    def run(
        self, model: Any, batch: Any = None, *, optimizer: Any = None, loss_fn: LossFn | None = None
    ) -> list[Finding]:
        """Findings about `model`; their onset is step 0."""
        ...


@dataclass(frozen=True, slots=True)
class CheckEntry:
    """A check in the registry, known by name until it is used: its module imports torch, the registry doesn't."""

    name: str
    """Name on the command line, and to allow it by."""
    where: str
    """Module that holds `CHECK`; its docstring is the page."""

    def load(self) -> Check:
        """The check itself; imports torch."""
        return importlib.import_module(self.where).CHECK
