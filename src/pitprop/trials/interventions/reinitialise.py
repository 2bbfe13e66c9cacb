"""Reinitialise: start a part of the model again."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from pitprop._errors import PitpropError
from pitprop.trials.interventions._pytree import forget, leaves_at
from pitprop.trials.interventions._targets import Applied, is_jax, modules_at, optimizers_of


@dataclass(frozen=True)
class Reinitialise:
    """Every module under `path` calls its own `reset_parameters()` under `seed`; its optimizer state is dropped.

    That is the layer's default initialisation, not one that the model applied afterwards. The global generator is left
    as it was. In jax the new values are those of the recipe's own `init(seed)`.
    """

    path: str
    seed: int = 0

    def describe(self) -> str:
        return f"{self.path} re-initialised (seed {self.seed}), its optimizer state dropped"

    def blames(self) -> str:
        return f"the weights that `{self.path}` had at the fork"

    def apply(self, training: Any) -> Applied:
        if is_jax(training):
            return self._apply_to_pytree(training)
        found = modules_at(training, self.path)
        applied = Applied(tuple(found))
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            for path, module in found.items():
                resettable = [part for part in module.modules() if hasattr(part, "reset_parameters")]
                reached = {id(p) for part in resettable for p in part.parameters()}
                missed = [name for name, p in module.named_parameters(path) if id(p) not in reached]
                if missed or not reached:
                    raise PitpropError(
                        f"`{path}` cannot be re-initialised: {', '.join(missed) or 'it has no parameters'}.",
                        means="No module that owns it has a `reset_parameters()`.",
                        do="define `reset_parameters()` on the module, or name the layers below it.",
                    )
                for part in resettable:
                    part.reset_parameters()  # type: ignore[operator]
                applied.calls[path] += 1
                for optimizer in optimizers_of(training).values():
                    for parameter in module.parameters():
                        optimizer.state.pop(parameter, None)
        return applied

    def _apply_to_pytree(self, training: Any) -> Applied:
        import jax

        names, mask = leaves_at(training, self.path)
        new = jax.tree.map(
            lambda hit, old, start: start.astype(old.dtype) if hit else old,
            mask,
            training.tree["params"],
            training.init(self.seed),
        )
        training.tree = {**training.tree, "params": new}
        forget(training, mask)
        return Applied(names, Counter(names))
