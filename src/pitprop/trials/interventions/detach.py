"""Detach: let a module speak, but send no gradient back through it."""

from dataclasses import dataclass
from typing import Any

from pitprop.trials.interventions._targets import Applied, change_output


@dataclass(frozen=True)
class Detach:
    """The output of every module at `path` is detached: same numbers forward, no gradient back through it."""

    path: str

    def describe(self) -> str:
        return f"output of {self.path} detached (no gradient flows back through it)"

    def blames(self) -> str:
        return f"the gradient through `{self.path}`"

    def apply(self, training: Any) -> Applied:
        return change_output(training, self.path, lambda _path, output: output.detach())
