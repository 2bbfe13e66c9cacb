"""Replace: put a remedy where a module was."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pitprop._errors import PitpropError, nearest
from pitprop.remedies import REMEDIES
from pitprop.trials.interventions._insertion import measure_insertion, twin_of
from pitprop.trials.interventions._targets import (
    Applied,
    averages_of,
    change_first,
    groups_of,
    model_of,
    modules_at,
    optimizers_of,
)
from pitprop.trials.load import load_attribute
from pitprop.trials.sources import source_digest

INSERT: dict[str, Callable[[Callable, nn.Module], nn.Module]] = {
    "layer-scale": lambda remedy, old: _Behind(old, remedy(_width(old), init=1.0)),
    "unit-rms": lambda remedy, old: remedy(old),
    "mean-pool": lambda remedy, old: remedy(),
    "zero-init-projection": lambda remedy, old: remedy(old),
}
"""How a named remedy takes the place of a module, for those that need to know no more than the module tells."""


@dataclass(frozen=True)
class Replace:
    """Every module at `path` replaced by a remedy.

    Args:
        path: Dotted module path, wildcards allowed.
        remedy: Name of a remedy that fits any place (`layer-scale` behind the module with gain 1, `unit-rms` before it,
            `mean-pool`, `zero-init-projection`), or a reference `file.py:factory` or `package.module:factory`; a
            factory takes the old module and returns the new one. A file's path is made absolute.
        keep: Refuse the run unless the module says the same as before at insertion, up to rounding.
        source: Digest of the factory's code, as it is on disk now unless given, so that an edited factory never meets
            old results; empty for a named remedy.

    On the first batch after insertion the old module is called beside the new one, and the relative change of the
    output, |new - old| / |old|, is written into the run's record and beside the verdict: 0 where the function was kept.
    New parameters join the parameter group of the old module's parameters (else the first group); parameters that have
    left the model leave the optimizer.
    """

    path: str
    remedy: str
    keep: bool = False
    source: str = ""

    def __post_init__(self):
        place, colon, attribute = self.remedy.rpartition(":")
        if place.endswith(".py"):
            object.__setattr__(self, "remedy", f"{Path(place).resolve()}:{attribute}")
        if colon and not self.source:
            object.__setattr__(self, "source", source_digest(self.remedy))

    def describe(self) -> str:
        return f"{self.path} replaced by {self.remedy}" + (", its function kept at insertion" if self.keep else "")

    def blames(self) -> str:
        return f"`{self.path}` as it is"

    def apply(self, training: Any) -> Applied:
        make = _factory(self.remedy)
        model = model_of(training)
        found, averages = modules_at(training, self.path), averages_of(training)
        applied = Applied(tuple(found))
        for path, old in found.items():
            twin = twin_of(old)
            parent, _, name = path.rpartition(".")
            rng = torch.get_rng_state()
            for average in averages:  # pairs its parameters with the model's by their order
                there = average.get_submodule(parent)
                setattr(there, name, self._made(make, getattr(there, name), path))
                torch.set_rng_state(rng)
            new = self._made(make, old, path)
            torch.set_rng_state(rng)  # initialising the remedy must not shift the arm's dropout masks
            setattr(model.get_submodule(parent), name, new)
            new.register_forward_hook(lambda *_, path=path: applied.calls.update((path,)))
            measure_insertion(path, twin, new, applied, keep=self.keep)
            _hand_over(training, old, new)
        return applied

    def _made(self, make: Callable[[nn.Module], nn.Module], old: nn.Module, path: str) -> nn.Module:
        before = next(old.parameters(), None)
        new = make(old)
        if not isinstance(new, nn.Module):
            raise PitpropError(f"`{self.remedy}` returned a {type(new).__name__} for `{path}`, not a torch module.")
        if before is not None:
            new.to(before.device)
        return new.train(old.training)


def _factory(remedy: str) -> Callable[[nn.Module], nn.Module]:
    if ":" in remedy:
        return load_attribute(remedy)
    where = {known.name: known.where[0] for known in REMEDIES if known.framework == "torch"}
    if remedy not in where:
        raise PitpropError(f"There is no remedy `{remedy}`: {nearest(remedy, where)}")
    if remedy not in INSERT:
        raise PitpropError(
            f"The remedy `{remedy}` cannot take a module's place by itself.",
            means="It acts inside of an attention, or between two tensors.",
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


class _Behind(nn.Module):
    """`after` applied to what `inner` hands on (a tuple's first tensor)."""

    def __init__(self, inner: nn.Module, after: nn.Module):
        super().__init__()
        self.inner, self.after = inner, after

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return change_first(self.inner(*args, **kwargs), self.after, "the module")


def _width(old: nn.Module) -> int:
    """Channels of what `old` hands on, as the last layer in it declares them."""
    declared = [getattr(m, name, None) for m in old.modules() for name in ("out_features", "normalized_shape")]
    widths = [value[-1] if isinstance(value, tuple) else value for value in declared if value]
    if not widths:
        raise PitpropError(
            f"The {type(old).__name__} does not say how many channels it hands on.",
            means="A LayerScale has one gain per channel.",
            do="write a factory `make(old_module) -> module` that knows the width, and give its reference.",
        )
    return widths[-1]
