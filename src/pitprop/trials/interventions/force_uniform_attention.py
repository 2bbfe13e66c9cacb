"""ForceUniformAttention: the negative control of every claim about attention."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pitprop.trials.interventions._targets import Applied, modules_at

SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax)

HIDDEN = -5000.0
"""A logit at or under this is masked: masks are written as -inf, finfo.min, -1e9 or -1e4, attention logits are not."""


@dataclass(frozen=True)
class ForceUniformAttention:
    """Inside every module at `path`, attention weights are uniform over the keys that each query may see.

    It acts on `F.scaled_dot_product_attention`, `nn.MultiheadAttention` and every softmax that is called inside the
    module. Masks and causality hold: hidden are the keys that a mask hides, or whose logit is at or under -5000; finite
    additive biases are dropped. Queries and keys get gradient 0, dropout on the weights stays. Activation
    checkpointing must wrap the whole module, for its second forward pass is found by the module's hooks only.
    """

    path: str

    def describe(self) -> str:
        return f"attention inside {self.path} forced to be uniform over the visible keys"

    def blames(self) -> str:
        return f"what the attention of `{self.path}` selects"

    def apply(self, training: Any) -> Applied:
        found = modules_at(training, self.path)
        applied = Applied(tuple(found))
        for path, module in found.items():
            entered: list[_Uniform] = []

            def enter(*_, path=path, entered=entered):
                entered.append(_Uniform(applied, path))
                entered[-1].__enter__()

            def leave(*_, entered=entered):
                if entered:
                    entered.pop().__exit__(None, None, None)

            module.register_forward_pre_hook(enter)
            # Also when the forward pass raises: a mode left on would act on the whole process.
            module.register_forward_hook(leave, always_call=True)
        return applied


class _Uniform(TorchFunctionMode):
    """Sends every attention in its scope through logits that are 0 where visible."""

    def __init__(self, applied: Applied, path: str):
        super().__init__()
        self.applied, self.path = applied, path

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in SOFTMAX:
            logits, *rest = (*args, *((kwargs.pop("input"),) if "input" in kwargs else ()))
            change = (torch.where(logits <= HIDDEN, logits, logits * 0), *rest)
        elif func is F.scaled_dot_product_attention:
            change = _sdpa(*args, **kwargs)
            kwargs = change.pop("options")
            change = tuple(change.values())
        elif func is F.multi_head_attention_forward:
            change, kwargs = (), _multi_head(inspect.signature(func).bind(*args, **kwargs).arguments)
        else:
            return func(*args, **kwargs)
        self.applied.calls[self.path] += 1
        return func(*change, **kwargs)


def _sdpa(query, key, value, attn_mask=None, *positional, **options) -> dict[str, Any]:
    rest = dict(zip(("dropout_p", "is_causal"), positional, strict=False))
    options = {"attn_mask": _hard(attn_mask), **rest, **options}
    return {"query": query * 0, "key": key, "value": value, "options": options}


def _multi_head(arguments: dict[str, Any]) -> dict[str, Any]:
    """A query projected to 0 has logits 0, whatever the keys; the function adds its masks afterwards."""
    changed = dict(arguments)
    width = arguments["embed_dim_to_check"]
    if arguments.get("use_separate_proj_weight"):
        changed["q_proj_weight"] = arguments["q_proj_weight"] * 0
    else:
        changed["in_proj_weight"] = _without_query(arguments["in_proj_weight"], width)
    if arguments["in_proj_bias"] is not None:
        changed["in_proj_bias"] = _without_query(arguments["in_proj_bias"], width)
    for name in ("attn_mask", "key_padding_mask"):
        changed[name] = _hard(arguments.get(name))
    return changed


def _without_query(packed: Tensor, width: int) -> Tensor:
    return torch.cat([packed[:width] * 0, packed[width:]])


def _hard(mask: Tensor | None) -> Tensor | None:
    """`mask` without finite biases."""
    if mask is None or not mask.is_floating_point():
        return mask
    return torch.where(mask <= HIDDEN, mask, torch.zeros_like(mask))
