"""LearningRate: larger or smaller steps, for the whole model or under a path."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.interventions._pytree import leaves_at, where, wrap
from pitprop.trials.interventions._targets import (
    Applied,
    acting_at_steps,
    groups_of,
    is_jax,
    optimizers_of,
    parameters_at,
)


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of parameters at or under `path` times `factor`, on top of whatever a scheduler does.

    Where a parameter group is matched whole, its `lr` is multiplied for the length of the step. Where it is matched in
    part, the matched parameters' update is multiplied instead, which is the same for every optimizer whose update is
    proportional to `lr` (all of torch.optim but LBFGS and Adafactor). In jax it is always the update.
    """

    factor: float
    path: str = "*"

    def __post_init__(self):
        if not self.factor >= 0:
            raise PitpropError(
                f"A learning rate cannot be multiplied by {self.factor:g}.",
                means="Under 0 the training would climb the loss.",
                do="give a factor of 0 or more.",
            )

    def describe(self) -> str:
        where = "" if self.path == "*" else f" of {self.path}"
        return f"learning rate{where} multiplied by {self.factor:g}"

    def blames(self) -> str:
        return "the learning rate" if self.path == "*" else f"the learning rate of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        if is_jax(training):
            names, mask = leaves_at(training, self.path)
            return wrap(training, Applied(names), after=partial(where, mask, lambda leaf: leaf * self.factor))
        wanted = {id(parameter) for parameter in parameters_at(training, self.path).values()}
        matched = []
        for name, optimizer, group in groups_of(optimizers_of(training)):
            inside = [parameter for parameter in group["params"] if id(parameter) in wanted]
            if inside:
                matched.append((name, optimizer, group, inside))
        applied = acting_at_steps(tuple(name for name, *_ in matched))
        for name, optimizer, group, inside in matched:
            slow = self._whole if len(inside) == len(group["params"]) else self._part
            slow(applied, name, optimizer, group, inside)
        return applied

    def _whole(self, applied: Applied, name: str, optimizer, group: dict, _inside: list) -> None:
        before = []

        def start(*_):
            applied.calls[name] += 1
            before.append(group["lr"])
            group["lr"] = group["lr"] * self.factor

        def end(*_):
            group["lr"] = before.pop()

        optimizer.register_step_pre_hook(start)
        optimizer.register_step_post_hook(end)

    def _part(self, applied: Applied, name: str, optimizer, _group: dict, inside: list) -> None:
        before = []

        def start(*_):
            applied.calls[name] += 1
            before.append([parameter.detach().clone() for parameter in inside])

        def end(*_):
            for parameter, old in zip(inside, before.pop(), strict=True):
                parameter.data.sub_(old).mul_(self.factor).add_(old)

        optimizer.register_step_pre_hook(start)
        optimizer.register_step_post_hook(end)
