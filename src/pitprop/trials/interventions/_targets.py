"""Where an intervention acts: modules and parameters by path, optimizers, and the forward hooks that do the work."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from pitprop._errors import PitpropError, nearest


@dataclass
class Applied:
    """What an intervention took hold of, and how often it acted; one that never acted is an error, not silence."""

    paths: tuple[str, ...]
    """Modules, parameters or optimizers, by name."""
    calls: Counter = field(default_factory=Counter)
    """Path -> number of times the intervention acted there."""
    measured: dict[str, float] = field(default_factory=dict)
    """Path -> relative change of the module's output at insertion, where a module was inserted."""
    conditional: bool = False
    """Whether it acts only beyond a threshold, and may rightly never act."""
    means: str = "The module was not called (or was compiled before), so the arm was another control."
    """What it means where it never acted."""
    do: str = "name a module that the forward pass calls, and leave torch.compile out of a trial's recipe."
    """What to do then."""
    hooks: list[RemovableHandle] = field(default_factory=list)
    """Forward hooks that do the work; removing them takes the intervention back."""

    def check(self, what: str) -> None:
        """Raise unless every path was acted on at least once, or may rightly not have been."""
        silent = [path for path in self.paths if not self.calls[path] and not self.conditional]
        if silent:
            raise PitpropError(
                f"{what}: it never acted at {', '.join(f'`{path}`' for path in silent)}.",
                means=self.means,
                do=self.do,
            )


def acting_at_steps(paths: tuple[str, ...]) -> Applied:
    """What acts when an optimizer steps: one that never steps is named, not the module."""
    return Applied(
        paths,
        means="The optimizer made no step, so the arm was another control.",
        do="call `optimizer.step()` in the recipe's `step`, on the optimizer that is an attribute of the training.",
    )


class Intervention(Protocol):
    """One stated change to a run: a frozen dataclass of JSON values.

    Knob-level interventions have `knobs(knobs) -> knobs` and act before the training is built; training-level ones have
    `apply(training) -> Applied` and act on the training at the fork. One that needs the recipe has `bind(build, seed)`
    instead, which returns what is applied.
    """

    def describe(self) -> str:
        """The change in full, as a sentence fragment for a table."""
        ...

    def blames(self) -> str:
        """What a run loses by this change: the suspect, as a noun phrase."""
        ...


def is_jax(training: Any) -> bool:
    """Whether it is a `JaxTraining`, or made like one: a pytree of state and a gradient transformation."""
    return hasattr(training, "tree") and hasattr(training, "tx")


def model_of(training: Any) -> nn.Module:
    """The training's `model`."""
    model = getattr(training, "model", None)
    if is_jax(training):
        raise PitpropError(
            "The training is a jax one: it has no torch modules and no torch optimizer.",
            means="A pure step is closed to everything that acts inside of a forward pass, watching included.",
            do="use what acts on knobs, data, parameters or updates: Knob, SwapData, Freeze, LearningRate, "
            'ClipGradient, Reinitialise, ResetOptimizer and Scale(side="parameters"); for anything else, make it a '
            "knob of the recipe.",
            read="docs/interventions.md",
        )
    if not isinstance(model, nn.Module):
        raise PitpropError(
            "The training has no torch module as its attribute `model`.",
            means="Interventions by module path act on `training.model`.",
            do="bind the model to `self.model` in the training, or use Knob interventions only.",
        )
    return model


def optimizers_of(training: Any) -> dict[str, torch.optim.Optimizer]:
    """Every optimizer among the training's attributes (also in lists and dicts), by name."""
    if is_jax(training):
        model_of(training)  # says what can be done instead
    found: dict[str, torch.optim.Optimizer] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, torch.optim.Optimizer):
            if all(value is not known for known in found.values()):
                found[name] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{name}.{key}")
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                walk(item, f"{name}.{index}")

    for name, value in vars(training).items():
        walk(value, name)
    if not found:
        raise PitpropError(
            "The training has no torch optimizer among its attributes.",
            do="bind it to `self.optimizer` in the training.",
        )
    return found


def matches(path: str, pattern: str) -> bool:
    """Whether `path` matches `pattern`, name by name: `*` stays between dots, so no child matches with its parent."""
    names, parts = path.split("."), pattern.split(".")
    return len(names) == len(parts) and all(map(fnmatchcase, names, parts))


def is_under(name: str, pattern: str) -> bool:
    """Whether the parameter `name` matches `pattern`, or lies under something that does."""
    parts = name.split(".")
    return any(matches(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def modules_at(training: Any, pattern: str) -> dict[str, nn.Module]:
    """Modules whose dotted path matches `pattern`; matching nothing is an error with the nearest names."""
    named = {path: module for path, module in model_of(training).named_modules() if path}
    found = {path: module for path, module in named.items() if matches(path, pattern)}
    if not found:
        raise PitpropError(f"No module matches `{pattern}`: {nearest(pattern, named)}")
    return found


def averages_of(training: Any) -> list[nn.Module]:
    """Copies of the model that an average of its weights holds: what many trainings evaluate, so that a change of the
    model must be made there too.

    An average is an attribute with a method `update` or `update_parameters` and a copy inside, as torch's, timm's and
    ema-pytorch's are. A plain copy is left alone: a reference or a teacher is no part of what is changed.
    """
    model = model_of(training)
    own, known = {id(part) for part in model.modules()}, [path for path, _ in model.named_modules()]
    holders = [
        value
        for value in vars(training).values()
        if isinstance(value, nn.Module) and (hasattr(value, "update") or hasattr(value, "update_parameters"))
    ]
    return [
        part
        for holder in holders
        for part in holder.modules()
        if type(part) is type(model) and id(part) not in own and [path for path, _ in part.named_modules()] == known
    ]


def places_at(training: Any, pattern: str, applied: Applied) -> Iterator[tuple[str, nn.Module, Counter]]:
    """`(path, module, counter of calls)` of what is at `pattern` in the model, and of the same modules in its averages,
    whose calls don't count as having acted.
    """
    averages = averages_of(training)
    for path, module in modules_at(training, pattern).items():
        yield path, module, applied.calls
        for average in averages:
            yield path, average.get_submodule(path), Counter()


def parameters_at(training: Any, pattern: str) -> dict[str, nn.Parameter]:
    """Parameters that match `pattern`, or that lie under a module that does."""
    model = model_of(training)
    named = dict(model.named_parameters())

    found = {name: parameter for name, parameter in named.items() if is_under(name, pattern)}
    if not found:
        known = [path for path, module in model.named_modules() if path and next(module.parameters(), None) is not None]
        raise PitpropError(f"No parameter is at or under `{pattern}`: {nearest(pattern, [*known, *named])}")
    return found


def change_output(training: Any, pattern: str, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Applied:
    """Hook every module at `pattern` so that its output (a tuple's first tensor) becomes `change(path, output)`."""
    applied = Applied(tuple(modules_at(training, pattern)))
    for path, module, calls in places_at(training, pattern, applied):

        def hook(_module, _args, output, path=path, calls=calls):
            calls[path] += 1
            return change_first(output, lambda tensor: change(path, tensor), path)

        applied.hooks.append(module.register_forward_hook(hook))
    return applied


def change_input(training: Any, pattern: str, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Applied:
    """Hook every module at `pattern` so that its first positional input becomes `change(path, input)`."""
    applied = Applied(tuple(modules_at(training, pattern)))
    for path, module, calls in places_at(training, pattern, applied):

        def hook(_module, args, path=path, calls=calls):
            calls[path] += 1
            return change_first(tuple(args), lambda tensor: change(path, tensor), path)

        applied.hooks.append(module.register_forward_pre_hook(hook))
    return applied


def groups_of(optimizers: dict[str, torch.optim.Optimizer]) -> Iterator[tuple[str, torch.optim.Optimizer, dict]]:
    """Every parameter group as `(name, optimizer, group)`."""
    for name, optimizer in optimizers.items():
        for index, group in enumerate(optimizer.param_groups):
            yield f"{name}.param_groups.{index}", optimizer, group


def change_first(value: Any, change: Callable[[torch.Tensor], torch.Tensor], path: str) -> Any:
    """`value` with its first tensor changed: itself, or the first of a tuple or list."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (tuple, list) and value and isinstance(value[0], torch.Tensor):
        return type(value)([change(value[0]), *value[1:]])
    raise PitpropError(
        f"`{path}` hands on a {type(value).__name__}, in which there is no first tensor.",
        do="name a module whose input and output are tensors, or tuples that begin with one.",
    )
