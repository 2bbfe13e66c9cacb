"""ForceUniformAttention: the negative control of every claim about attention."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pitprop.trials.interventions._attention import FUSED, MULTI_HEAD, change_attention
from pitprop.trials.interventions._targets import Applied

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
        return change_attention(training, self.path, _uniform)


def _uniform(_path: str, _module: Any, func: Callable, args: tuple, kwargs: dict) -> Any:
    """The attention call again, with logits that are 0 where visible."""
    if func is FUSED:
        return _sdpa(*args, **kwargs)
    if func is MULTI_HEAD:
        return func(**_multi_head(inspect.signature(func).bind(*args, **kwargs).arguments))
    kwargs = dict(kwargs)
    logits, *rest = (*args, *((kwargs.pop("input"),) if "input" in kwargs else ()))
    return func(torch.where(logits <= HIDDEN, logits, logits * 0), *rest, **kwargs)


def _sdpa(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options) -> Tensor:
    return FUSED(query * 0, key, value, _hard(attn_mask), dropout_p, is_causal, **options)


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
