"""ResetOptimizer: forget what the optimizer remembers."""

from dataclasses import dataclass
from typing import Any

from pitprop.trials.interventions._pytree import forget, leaves_at
from pitprop.trials.interventions._targets import Applied, is_jax, optimizers_of, parameters_at


@dataclass(frozen=True)
class ResetOptimizer:
    """The optimizer state (moments, step counts) of parameters at or under `path` is dropped at the fork.

    Weights, learning rates and schedulers stay. At step 0 there is nothing to drop, which is an error.
    In jax the state is set to that of `tx.init`; step counts, which all parameters share, go with `path="*"` only.
    """

    path: str = "*"

    def describe(self) -> str:
        where = "all parameters" if self.path == "*" else self.path
        return f"optimizer state of {where} dropped at the fork"

    def blames(self) -> str:
        return "the optimizer's memory" + ("" if self.path == "*" else f" of `{self.path}`")

    def apply(self, training: Any) -> Applied:
        applied = Applied(
            ("the optimizer state",),
            means="No parameter there has a state at the fork, so the arm was another control.",
            do="fork later: a state exists from the first optimizer step on (`fork_step`).",
        )
        if is_jax(training):
            mask = None if self.path == "*" else leaves_at(training, self.path)[1]
            applied.calls["the optimizer state"] += forget(training, mask)
            return applied
        found = parameters_at(training, self.path)
        for optimizer in optimizers_of(training).values():
            for parameter in found.values():
                if optimizer.state.pop(parameter, None):
                    applied.calls["the optimizer state"] += 1
        return applied
