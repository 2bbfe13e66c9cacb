"""Whether a new module keeps the function of the one whose place it takes: measured on the first batch."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pitprop._errors import PitpropError
from pitprop.trials.interventions._targets import Applied
from pitprop.watch.state import rng_state, set_rng_state

ROUNDING = 10
"""Units of the last place, relative to the output's norm, that count as the same function."""


def twin_of(old: nn.Module) -> nn.Module | None:
    """A copy of `old` to compare with, made before a factory may change it; None for what cannot be copied."""
    try:
        return copy.deepcopy(old)
    except RuntimeError:  # torch copies leaf tensors only (old-style weight_norm has others)
        return None


def measure_insertion(path: str, twin: nn.Module | None, new: nn.Module, applied: Applied, *, keep: bool) -> None:
    """Put |new - old| / |old| of the first call into `applied.measured[path]`; with `keep` refuse what is not rounding.

    Both see the same inputs and random numbers, which go on afterwards as if only `new` had been called. NaN where it
    cannot be compared.
    """
    before: dict[str, Any] = {}

    def enter(_module, args, kwargs):
        copies: dict[int, Tensor] = {}  # one tensor given twice stays one: attention asks `query is key`

        def clone(value: Any) -> Any:
            return copies.setdefault(id(value), value.detach().clone()) if isinstance(value, Tensor) else value

        before["call"], before["rng"] = tree_map(clone, (args, kwargs)), rng_state()

    def leave(module, _args, output):
        for hook in hooks:
            hook.remove()
        change = math.nan
        if twin is not None:
            after = rng_state()
            set_rng_state(before["rng"])
            args, kwargs = before["call"]
            if twin.training != module.training:
                twin.train(module.training)
            change = relative_change(output, twin(*args, **kwargs))
            set_rng_state(after)
        applied.measured[path] = change
        said = _first(output)
        if keep and (said is None or not change <= ROUNDING * torch.finfo(said.dtype).eps):
            raise PitpropError(
                f"The new module at `{path}` does not keep the function: {insertion_text([change])}.",
                means="It was to be inserted without a change of what the module says.",
                do="insert a remedy that starts as the identity (`layer-scale`, a gate with `identity=True`), or drop "
                "the demand: Replace(..., keep=False).",
            )
        before.clear()

    hooks = [
        new.register_forward_pre_hook(enter, with_kwargs=True),
        new.register_forward_hook(leave),
    ]


@torch.no_grad()
def relative_change(new: Any, old: Any) -> float:
    """|new - old| / |old| over the first tensors, in float64; 0 where both are all zero; NaN for unlike shapes."""
    a, b = _first(new), _first(old)
    if a is None or b is None or a.shape != b.shape:
        return math.nan
    a, b = a.detach().double(), b.detach().double()
    difference, size = (a - b).norm().item(), b.norm().item()
    return difference / size if size else (math.inf if difference else 0.0)


def insertion_text(changes: Sequence[float]) -> str:
    """The measurement in words, over modules and seeds: "keeps the function at insertion: relative change 0"."""
    measured = [change for change in changes if not math.isnan(change)]
    if not measured:
        return "insertion not comparable: its output has another shape, is not finite, or could not be had"
    low, high = min(measured), max(measured)
    if high == 0:
        told = "keeps the function at insertion: relative change 0"
    else:
        span = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
        told = f"changes its output by {span} at insertion"
    left = len(changes) - len(measured)
    return f"{told} ({left} of {len(changes)} not comparable)" if left else told


def _first(value: Any) -> Tensor | None:
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) and value.is_floating_point() else None
