"""ShuffleCondition: does it matter which condition an example gets?"""

import inspect
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map

from pitprop._errors import PitpropError, nearest
from pitprop.trials.interventions._targets import Applied, modules_at, places_at


@dataclass(frozen=True)
class ShuffleCondition:
    """Each example of a batch gets the condition of the one before it (dimension 0 rolled by 1).

    Rolled is the argument called `argument` of every module at `path` (every tensor in it), or the module's output
    where no argument is named. The batch keeps its conditions, only the pairing is lost. A batch of one is left as it
    is; a run that saw nothing else is an error.
    """

    path: str
    argument: str | None = None

    def describe(self) -> str:
        what = "output" if self.argument is None else f"argument {self.argument}"
        return f"{what} of {self.path} rolled by 1 over the batch"

    def blames(self) -> str:
        return f"the pairing of examples with the {self.argument or 'output'} of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        applied = Applied(tuple(modules_at(training, self.path)))
        for path, module, calls in places_at(training, self.path, applied):
            if self.argument is None:
                module.register_forward_hook(
                    lambda _m, _a, output, path=path, calls=calls: _rolled(output, calls, path)
                )
                continue
            signature = inspect.signature(module.forward)
            if self.argument not in signature.parameters:
                raise PitpropError(
                    f"`{path}` takes no argument `{self.argument}`: {nearest(self.argument, signature.parameters)}"
                )

            def hook(_module, args, kwargs, path=path, calls=calls, signature=signature):
                bound = signature.bind(*args, **kwargs)
                if self.argument in bound.arguments:
                    bound.arguments[self.argument] = _rolled(bound.arguments[self.argument], calls, path)
                return bound.args, bound.kwargs

            module.register_forward_pre_hook(hook, with_kwargs=True)
        return applied


def _rolled(value: Any, calls: Counter, path: str) -> Any:
    def roll(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or leaf.dim() == 0 or len(leaf) < 2:
            return leaf
        calls[path] += 1
        return leaf.roll(1, 0)

    return tree_map(roll, value)
