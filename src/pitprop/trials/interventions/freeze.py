"""Freeze: stop the parameters under a path from learning."""

from dataclasses import dataclass
from typing import Any

from pitprop.trials.interventions._targets import Applied, parameters_at


@dataclass(frozen=True)
class Freeze:
    """Parameters at or under `path` require no gradient and have none, so no optimizer moves them; buffers go on."""

    path: str

    def describe(self) -> str:
        return f"parameters of {self.path} frozen"

    def blames(self) -> str:
        return f"the learning of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        found = parameters_at(training, self.path)
        applied = Applied(tuple(found))
        for name, parameter in found.items():
            parameter.requires_grad_(False)
            parameter.grad = None
            applied.calls[name] += 1
        return applied
