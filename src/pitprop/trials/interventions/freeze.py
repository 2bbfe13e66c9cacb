"""Freeze: stop the parameters under a path from learning."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from pitprop.trials.interventions._pytree import leaves_at, where, wrap
from pitprop.trials.interventions._targets import Applied, is_jax, parameters_at


@dataclass(frozen=True)
class Freeze:
    """Parameters at or under `path` require no gradient and have none, so no optimizer moves them; buffers go on.

    In jax: their gradients are 0 before the transformation, and their updates 0 after it.
    """

    path: str

    def describe(self) -> str:
        return f"parameters of {self.path} frozen"

    def blames(self) -> str:
        return f"the learning of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        if is_jax(training):
            names, mask = leaves_at(training, self.path)
            still = partial(where, mask, lambda leaf: leaf * 0)
            return wrap(training, Applied(names), before=still, after=still)
        found = parameters_at(training, self.path)
        applied = Applied(tuple(found))
        for name, parameter in found.items():
            parameter.requires_grad_(False)
            parameter.grad = None
            applied.calls[name] += 1
        return applied
