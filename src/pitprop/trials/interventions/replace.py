"""Replace: put a remedy where a module was."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pitprop._errors import PitpropError, nearest
from pitprop.remedies import REMEDIES
from pitprop.trials.interventions._targets import Applied, groups_of, model_of, modules_at, optimizers_of
from pitprop.trials.load import load_attribute

INSERT: dict[str, Callable[[Callable, nn.Module], nn.Module]] = {
    "unit-rms": lambda remedy, old: remedy(old),
    "mean-pool": lambda remedy, old: remedy(),
    "zero-init-projection": lambda remedy, old: remedy(old),
}
"""How a named remedy takes the place of a module, for those that need to know nothing more about it."""


@dataclass(frozen=True)
class Replace:
    """Every module at `path` replaced by a remedy.

    Args:
        path: Dotted module path, wildcards allowed.
        remedy: Name of a remedy that fits any place (`unit-rms`, `mean-pool`, `zero-init-projection`), or a reference
            `file.py:factory` or `package.module:factory`; a factory takes the old module and returns the new one.

    New parameters join the parameter group of the old module's parameters (else the first group); parameters that have
    left the model leave the optimizer.
    """

    path: str
    remedy: str

    def describe(self) -> str:
        return f"{self.path} replaced by {self.remedy}"

    def blames(self) -> str:
        return f"`{self.path}` as it is"

    def apply(self, training: Any) -> Applied:
        make = _factory(self.remedy)
        model = model_of(training)
        found = modules_at(training, self.path)
        applied = Applied(tuple(found))
        for path, old in found.items():
            before = next(old.parameters(), None)
            rng = torch.get_rng_state()
            new = make(old)
            torch.set_rng_state(rng)  # initialising the remedy must not shift the arm's dropout masks
            if not isinstance(new, nn.Module):
                raise PitpropError(f"`{self.remedy}` returned a {type(new).__name__} for `{path}`, not a torch module.")
            if before is not None:
                new.to(before.device)
            new.train(old.training)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, new)
            new.register_forward_hook(lambda *_, path=path: applied.calls.update((path,)))
            _hand_over(training, old, new)
        return applied


def _factory(remedy: str) -> Callable[[nn.Module], nn.Module]:
    if ":" in remedy:
        return load_attribute(remedy)
    where = {known.name: known.where[0] for known in REMEDIES}
    if remedy not in where:
        raise PitpropError(f"There is no remedy `{remedy}`: {nearest(remedy, where)}")
    if remedy not in INSERT:
        raise PitpropError(
            f"The remedy `{remedy}` cannot take a module's place by itself.",
            means="It has to know a width, or sits between two tensors.",
            do=f"write a factory `make(old_module) -> module` with {where[remedy]} and give its reference.",
        )
    module, _, attribute = where[remedy].partition(":")
    made = getattr(importlib.import_module(module), attribute)
    return lambda old: INSERT[remedy](made, old)


def _hand_over(training: Any, old: nn.Module, new: nn.Module) -> None:
    """Bring the optimizers in line with the model: old parameters that left it go, new ones come."""
    kept = {id(parameter) for parameter in model_of(training).parameters()}
    groups = list(groups_of(optimizers_of(training)))
    held = {id(parameter) for *_, group in groups for parameter in group["params"]}
    olds = {id(parameter) for parameter in old.parameters()}
    home = next((group for *_, group in groups if any(id(p) in olds for p in group["params"])), groups[0][2])
    for _, optimizer, group in groups:
        for parameter in [p for p in group["params"] if id(p) in olds and id(p) not in kept]:
            optimizer.state.pop(parameter, None)
        group["params"] = [p for p in group["params"] if id(p) not in olds or id(p) in kept]
    home["params"] += [parameter for parameter in new.parameters() if id(parameter) not in held]
