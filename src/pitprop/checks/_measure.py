"""What one pass through the model shows: saturation, attention, residual branches and token streams, by site."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pitprop.checks._check import ROOT, Subject, once
from pitprop.checks._forward import one_pass, preserved
from pitprop.indicators import branch_ratio, token_cosine
from pitprop.watch._quiet import norm, quiet
from pitprop.watch.dispatch import ForwardMode
from pitprop.watch.provenance import storage_key
from pitprop.watch.sites import read_sites

TOKENS = 128
"""Tokens of a stream that are compared with each other, evenly spaced."""


@dataclass
class Branch:
    """One residual addition, x + b."""

    site: str
    ratio: float
    """|b| / |x|."""
    dilution: float
    """Mean over tokens of |x| / |x + b|: what a normalisation further on takes off the gradient of x."""
    after: float = float("nan")
    """Norm of the gradient behind the addition."""
    before: float = float("nan")
    """Norm of the whole gradient at x; where x also feeds the branch, that path is in it."""


@dataclass
class Block:
    """One block's stream, at its entrance and its exit."""

    site: str
    rms_in: float
    rms_out: float
    distance_in: float
    """Distance between two tokens as a share of their length, sqrt(2 (1 - cosine))."""
    distance_out: float
    num_branches: int
    """Residual additions inside it."""


@dataclass
class Measured:
    """One forward and backward pass of the first batch."""

    scalars: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Indicator -> site -> values, one per use."""
    branches: list[Branch] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def means(self, indicator: str) -> dict[str, float]:
        """Mean over uses, by site."""
        return {site: sum(v) / len(v) for site, v in self.scalars.get(indicator, {}).items()}

    def stacks(self) -> list[list[Block]]:
        """Blocks in a row, by the container that holds them."""
        rows: dict[str, list[Block]] = {}
        for block in self.blocks:
            rows.setdefault(block.site.rpartition(".")[0], []).append(block)
        return list(rows.values())


@once
def measure(subject: Subject) -> Measured:
    """Measure the first batch; the model stays as it is."""
    found = Measured()
    with preserved(subject.model), observed(subject.model, found):
        one_pass(subject, subject.batches[0])
    return found


@contextlib.contextmanager
def observed(model: nn.Module, found: Measured) -> Iterator[None]:
    """What `model` does within is added to `found`, in the order in which it happens."""
    sites = read_sites(model)
    stack: list[tuple[nn.Module, str]] = [(model, ROOT)]

    def record(indicator: str, site: str, value: Tensor) -> None:
        if len(stack) > 1:  # what an optimizer adds up is no forward pass
            found.scalars.setdefault(indicator, {}).setdefault(site, []).append(float(value))

    def on_addition(site: str, stream: Tensor, branch: Tensor) -> None:
        if len(stack) > 1:
            found.branches.append(_branch(site, stream, branch))

    entered: list[int] = []

    def enter(module, _args):
        stack.append((module, sites.names[module]))
        entered.append(len(found.branches))

    def leave(module, args, output):
        _, site = stack.pop()
        added = len(found.branches) - entered.pop()
        first, last = _stream(args), _stream(output)
        if site in sites.blocks and first is not None and last is not None:
            with quiet():
                found.blocks.append(Block(site, _rms(first), _rms(last), _distance(first), _distance(last), added))

    mode = ForwardMode(
        record=record,
        record_map=None,
        unmeasured=lambda reason: None,
        stack=stack,
        attention_sites=sites.attention,
        parameters=frozenset(storage_key(p) for p in model.parameters()),
        guard=lambda tap: contextlib.nullcontext(),
        on_addition=on_addition,
    )
    handles = []
    try:
        for module in sites.names:
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, always_call=True))
        with mode:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _branch(site: str, stream: Tensor, branch: Tensor) -> Branch:
    with quiet():
        x, b = stream.detach().float(), branch.detach().float()
        kept = (x.norm(dim=-1) / (x + b).norm(dim=-1)).nanmean()
        found = Branch(site, float(branch_ratio(b, x)), float(kept))

    def keep(gradient: Tensor, which: str) -> None:
        with quiet():
            setattr(found, which, float(norm(gradient)))

    # An addition hands its gradient on as it is, so the branch's gradient is the one behind the addition.
    for tensor, which in ((branch, "after"), (stream, "before")):
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient, which=which: keep(gradient, which))
    return found


def _stream(value) -> Tensor | None:
    """The `[batch, token, width]` tensor that a block takes or hands on."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    if isinstance(first, Tensor) and first.dim() == 3 and first.is_floating_point() and first.shape[1] > 1:
        return first.detach()
    return None


def _rms(x: Tensor) -> float:
    return float(x.float().square().mean().sqrt())


def _distance(x: Tensor) -> float:
    every = max(1, x.shape[1] // TOKENS)
    # 1 - cosine of nearly equal tokens is lost in float32.
    cosine = token_cosine(x[:, ::every].double()).nanmean()
    return float(torch.sqrt(2 * (1 - cosine).clamp(min=0)))
