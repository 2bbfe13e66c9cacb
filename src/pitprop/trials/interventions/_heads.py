"""Single heads of attention, taken out between the weighted values and the output projection."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pitprop._errors import PitpropError
from pitprop.trials.interventions._attention import MULTI_HEAD, change_attention
from pitprop.trials.interventions._targets import Applied

DECLARED = ("num_heads", "n_heads", "num_attention_heads", "n_head", "heads", "nhead")
"""Attributes, of a module or of its `config`, in which libraries keep the number of heads."""


def ablate_heads(training: Any, pattern: str, heads: tuple[int, ...]) -> Applied:
    """What `heads` say is multiplied by 0 in every attention inside the modules at `pattern`.

    Raises (when the attention is called):
        PitpropError: The attention has no such head, or not as many as its module declares.
    """

    def attend(path: str, module: nn.Module, func: Callable, args: tuple, kwargs: dict) -> Any:
        if func is MULTI_HEAD:
            # Its heads are joined only inside of it: not reading a head is the same as the head saying 0.
            call = dict(inspect.signature(func).bind(*args, **kwargs).arguments)
            weight, count = call["out_proj_weight"], call["num_heads"]
            kept = _kept(heads, count, path, weight).repeat_interleave(weight.shape[1] // count)
            return func(**(call | {"out_proj_weight": weight * kept}))
        shape = tuple((args[0] if args else kwargs["query" if "query" in kwargs else "input"]).shape)
        declared = _declared(module)
        if len(shape) > 3:
            count = shape[-3]
        elif len(shape) == 3 and declared is not None and shape[0] % declared == 0:
            count = declared  # batch and heads are folded into one axis
        else:
            return NotImplemented  # of a router or a pooling: nothing in it is a head
        if declared not in (None, count):
            raise PitpropError(
                f"`{path}` declares {declared} heads, and its attention works on {shape}.",
                means="The axis of the heads is taken to be the third from the end, and here it is not.",
                do="name the module that holds this one attention, or let it work on [batch, head, query, key].",
            )
        out = func(*args, **kwargs)
        axes = out if len(shape) > 3 else out.unflatten(0, (-1, count))
        # A softmax gives weights: a head whose weights are 0 says 0.
        return (axes * _kept(heads, count, path, out)[:, None, None]).reshape(out.shape)

    applied = change_attention(training, pattern, attend)
    applied.means = "No attention with visible heads ran inside the module: none, or a kernel that is not torch's own."
    applied.do = (
        "name a module that calls scaled_dot_product_attention, nn.MultiheadAttention, or a softmax over "
        "[batch, head, query, key]."
    )
    return applied


def _kept(heads: tuple[int, ...], count: int, path: str, like: Tensor) -> Tensor:
    """1 for each head that is kept, 0 for each of `heads`."""
    missing = [head for head in heads if not 0 <= head < count]
    if missing:
        raise PitpropError(
            f"The attention of `{path}` has no head {missing[0]}: it has {count}.",
            do=f"heads are counted from 0; give one of 0 to {count - 1}.",
        )
    kept = torch.ones(count, dtype=like.dtype, device=like.device)
    kept[list(heads)] = 0
    return kept


def _declared(module: nn.Module) -> int | None:
    """The number of heads that `module` or what is in it declares, where they agree."""
    owners = [owner for part in module.modules() for owner in (part, getattr(part, "config", None))]
    values = [getattr(owner, name, None) for owner in owners for name in DECLARED]
    counts = {value for value in values if type(value) is int}
    return counts.pop() if len(counts) == 1 else None
