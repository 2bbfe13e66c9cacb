"""The one dispatch mode: sees each operation of a forward pass; measures attention, saturation, residual branches.

It is entered around the outermost watched module, on measured steps only. A plain `TorchDispatchMode` would make Dynamo
give up compiled code for good (pytorch#190286); `ignore_compile_internals` keeps it compiled.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pitprop.indicators import branch_ratio, dead_share, saturated_share
from pitprop.watch import attention
from pitprop.watch._quiet import quiet
from pitprop.watch.provenance import EMBEDDING, PARAMETER, SCORES, Provenance
from pitprop.watch.sites import child_towards, is_below

aten = torch.ops.aten
TANH, SIGMOID, ADDITION, FUSED, PACKED, SOFTMAX, RELU = range(7)
ROLES = {
    **dict.fromkeys((aten.tanh.default, aten.tanh_.default), TANH),
    **dict.fromkeys((aten.sigmoid.default, aten.sigmoid_.default), SIGMOID),
    **dict.fromkeys((aten.relu.default, aten.relu_.default), RELU),
    **dict.fromkeys((aten.add.Tensor, aten.add_.Tensor), ADDITION),
    **dict.fromkeys((aten._softmax.default, aten._safe_softmax.default), SOFTMAX),
    **dict.fromkeys(attention.FUSED, FUSED),
    **dict.fromkeys(attention.PACKED, PACKED),
}
"""Operations that are measured, by one look-up: this is asked for every operation of a forward pass."""
BRANCH_SAMPLES, UNITS, UNIT_SAMPLES = 4, 16384, 256
"""Samples of a residual addition (the first ones), units of a tanh or sigmoid (evenly spaced), and samples of every
unit of a ReLU (evenly spaced), that are measured."""


class ForwardMode(TorchDispatchMode):
    """Observes one outermost forward pass; enter it anew for the next.

    Args:
        record: `record(indicator, site, scalar)` keeps a 0-d tensor.
        record_map: Keeps an attention map of a site.
        unmeasured: Counts attention that was seen and could not be measured, by reason.
        stack: Modules whose forward runs now, outermost first, as (module, site).
        attention_sites: Sites where attention is expected.
        parameters: Storages of the model's parameters.
        guard: `with guard(tap)` keeps errors of a measurement from the loop.
        on_addition: Sees each residual addition before it runs, as (site, stream, branch).
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        *,
        record: Callable[[str, str, Tensor], None],
        record_map: Callable[[str, Tensor], None] | None,
        unmeasured: Callable[[str], None],
        stack: list,
        attention_sites: frozenset[str],
        parameters: frozenset[int],
        guard: Callable[[str], AbstractContextManager],
        on_addition: Callable[[str, Tensor, Tensor], None] | None = None,
    ):
        super().__init__()
        self._record, self._record_map, self._unmeasured = record, record_map, unmeasured
        self._stack, self._attention_sites = stack, attention_sites
        self._provenance = Provenance(parameters)
        self._guard, self._on_addition = guard, on_addition

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled code stays compiled under this mode."""
        return True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # A recomputation of activation checkpointing runs in the backward pass: seen already.
        if torch._C._current_graph_task_id() != -1:
            return func(*args, **kwargs)
        role = ROLES.get(func)
        if role == ADDITION:
            # Before the addition: done in place, it overwrites the stream.
            with self._guard("branch_ratio"):
                self._addition(args, kwargs)
        out = func(*args, **kwargs)
        try:  # not `self._guard`: this runs for every operation
            self._observe(func, role, args, kwargs, out)
        except Exception as error:
            with self._guard("dispatch"):
                raise error
        return out

    def _observe(self, func, role: int | None, args, kwargs, out) -> None:
        if not isinstance(func, torch._ops.OpOverload):
            if "flex_attention" in str(func):
                self._unmeasured("flex_attention (score_mod may be any function)")
            return
        if role is not None:
            self._measure(func, role, args, kwargs, out)
        if not self._provenance.full:
            inputs, outputs = _tensors((*args, *kwargs.values())), _tensors((out,))
            self._provenance.follow(func, inputs, outputs, self._stack[-1][1])

    def _measure(self, func, role: int, args, kwargs, out) -> None:
        if role in (TANH, SIGMOID):
            if out.is_complex():
                return
            with quiet():
                units = out.reshape(-1)[:: max(1, math.ceil(out.numel() / UNITS))]
                share = saturated_share(units, "tanh" if role == TANH else "sigmoid")
            self._record("saturated_share", self._stack[-1][1], share)
        elif role == RELU:
            if out.dim() >= 2:
                with quiet():
                    share = dead_share(_by_unit(out))
                self._record("dead_share", self._stack[-1][1], share)
        elif role == FUSED:
            call = _by_name(func, args, kwargs)
            qk = {"q": call["query"], "k": call["key"], "mask": call.get("attn_mask", call.get("attn_bias"))}
            qk |= {"scale": call.get("scale"), "is_causal": call.get("is_causal", False)}
            self._attention(lambda with_map: attention.from_qk(**qk, with_map=with_map))
        elif role == PACKED:
            call = _by_name(func, args, kwargs)
            self._attention(lambda with_map: attention.from_qk(**attention.packed_qk(call), with_map=with_map))
        elif role == SOFTMAX:
            scores, axis = args[0], args[1] % max(1, args[0].dim())
            if scores.dim() >= 3 and axis >= 1 and self._provenance.tag(scores).kind & SCORES:
                heads = getattr(self._stack[-1][0], "num_heads", None)
                before, after = scores.movedim(axis, -1), out.movedim(axis, -1)
                self._attention(lambda with_map: attention.from_scores(before, after, heads=heads, with_map=with_map))

    def _attention(self, measure: Callable[[bool], attention.Measured]) -> None:
        site = self._attention_site()
        with quiet():
            measured = measure(self._record_map is not None)
        for indicator, value in measured.numbers.items():
            self._record(indicator, site, value)
        if measured.map is not None and self._record_map is not None:
            self._record_map(site, measured.map)

    def _addition(self, args, kwargs) -> None:
        """A residual addition: one operand was computed from the other, or comes out of another module."""
        if self._provenance.full or kwargs.get("alpha", 1) != 1:
            return
        a, b = args
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
            return
        if a.shape != b.shape or a.dim() < 3 or not a.is_floating_point():
            return
        tag_a, tag_b = self._provenance.tag(a), self._provenance.tag(b)
        if tag_a.bit == tag_b.bit:
            return
        here = self._stack[-1][1]
        if tag_b.ancestors & tag_a.bit:
            stream, branch, origin = a, b, tag_b.origin
        elif tag_a.ancestors & tag_b.bit:
            stream, branch, origin = b, a, tag_a.origin
        elif tag_b.origin not in (None, here, tag_a.origin) and not (tag_a.kind | tag_b.kind) & (PARAMETER | EMBEDDING):
            # Two independent tensors: what is written second is the branch (a context injected into a stream). Made by
            # the very code that adds, they are parts of a formula (rotary embedding), and no branch.
            stream, branch, origin = a, b, tag_b.origin
        else:
            return
        site = here if origin is None or origin == here else origin
        if is_below(site, here):
            site = child_towards(site, here)
        with quiet():
            self._record("branch_ratio", site, branch_ratio(branch[:BRANCH_SAMPLES], stream[:BRANCH_SAMPLES]))
        if self._on_addition is not None:
            self._on_addition(site, stream, branch)

    def _attention_site(self) -> str:
        """The innermost module that looks like attention; else the innermost that has children."""
        for _, site in reversed(self._stack):
            if site in self._attention_sites:
                return site
        for module, site in reversed(self._stack):
            if any(True for _ in module.children()):
                return site
        return self._stack[-1][1]


def _by_unit(out: Tensor) -> Tensor:
    """`[sample, unit]` of an activation: units are channels in pictures, and along the last axis everywhere else."""
    if out.dim() < 4:
        units = out.reshape(-1, out.shape[-1])
        return units[:: max(1, units.shape[0] // UNIT_SAMPLES)]
    places = out.flatten(2)
    every = max(1, places.shape[0] * places.shape[2] // UNIT_SAMPLES)
    return places[:, :, ::every].movedim(1, -1).reshape(-1, places.shape[1])


def _by_name(func, args, kwargs) -> dict:
    """Arguments of an operation by the names of its schema."""
    return dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs


def _tensors(values) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(item for item in value if isinstance(item, Tensor))
    return found
