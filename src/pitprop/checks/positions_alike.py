"""A code of places that is the same along one of its axes.

## What it detects
What is added or concatenated to the data in a forward pass, isn't computed from the data, varies from place to place
and has entries of its own for a further axis, along which it is the same throughout (warning): the network is told the
row of each place and not its column.

## Why it matters
Nothing breaks. Shapes are right, a convolution's edges and the data themselves still tell places apart a little, and
the loss falls. A system of the survey coded the rows twice and never a column, because a transposed array was
transposed back.

## Reads
One pass of a batch: which tensors are computed from the batch, at the level of torch's operations, and what the others
are where the two meet.

## Threshold
None: entries along an axis are equal or they aren't. An axis that is broadcast (of length 1, or expanded without a
copy) is none that the code has entries for, and neither are those in front of the first that it tells apart (batch,
set, time), unless half of its channels are a copy of the other half. Codes that are added to the same tensor one after
another are read as one.

## When it is wrong
A code that is the same along an axis on purpose, as the frequency of a spectrogram is over time, and was copied along
it instead of broadcast. Codes that are multiplied (rotary), computed from the data, or of a single axis are not read.

## Remedies
None by itself: build each half of the code from its own axis, and look at it once as a picture.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Grid(nn.Module):
...     def __init__(self, right):
...         super().__init__()
...         self.mix, self.right = nn.Linear(12, 8), right
...     def forward(self, x):
...         side = torch.arange(x.shape[1]) / 10
...         row, column = torch.meshgrid(side, side, indexing="ij")
...         axes = [row, column if self.right else row]
...         code = torch.stack([wave(axis) for axis in axes for wave in (torch.sin, torch.cos)], -1)
...         return self.mix(torch.cat([x, code.expand(len(x), -1, -1, -1)], -1))
>>> for right in (True, False):
...     for finding in CHECK.run(Subject(model=Grid(right), batches=(torch.randn(4, 6, 6, 8),))):
...         print(finding.severity, finding.message)
warning a code of shape (6, 6, 4) joins the data at <model>: it varies along axis 1 and is the same along axis 2.

## References
`GridEncoder` of the system behind the case `grid_solver` (`rows_twice`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from pitprop.checks._check import ROOT, Subject, found
from pitprop.checks._forward import one_pass, preserved, tensors_in
from pitprop.records import Finding
from pitprop.watch._quiet import quiet
from pitprop.watch.provenance import ROLES, SHAPE_ONLY, storage_key

aten = torch.ops.aten
ADDITIONS = (aten.add.Tensor, aten.add_.Tensor)


@dataclass(frozen=True)
class Code:
    """What was joined to one tensor of the data; axes are that tensor's."""

    site: str
    shape: tuple[int, ...]
    """Of the last part, where several were joined."""
    has: frozenset[int]
    """Axes with entries of their own."""
    varies: frozenset[int]
    """Those of them along which it isn't the same throughout."""
    doubled: bool
    """Half of the channels is a copy of the other half."""

    def alike(self) -> tuple[int, int] | None:
        """An axis along which it varies, and one along which it should."""
        if len(self.varies) < 2:  # channels vary, and places
            return None
        first = min(self.varies)
        same = [axis for axis in self.has - self.varies if axis > first or self.doubled]
        return (first, max(same)) if same else None


@dataclass(frozen=True, kw_only=True)
class PositionsAlike:
    """Codes that leave an axis out."""

    name: ClassVar[str] = "positions-alike"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        batch = subject.batches[0]
        with preserved(subject.model), _sites(subject.model) as stack, _Joins(stack, tensors_in(batch)) as joins:
            one_pass(subject, batch)
        findings: dict[tuple, Finding] = {}
        for code in joins.codes():
            if axes := code.alike():
                apart, same = axes
                message = (
                    f"a code of shape {code.shape} joins the data at {code.site}: it varies along axis {apart} "
                    f"and is the same along axis {same}."
                )
                evidence = {"axis_told_apart": apart, "axis_alike": same}
                findings[code.site, code.shape] = found(self.name, "warning", code.site, message, evidence)
        return list(findings.values())


@contextlib.contextmanager
def _sites(model: nn.Module) -> Iterator[list[str]]:
    """Names of the modules whose forward runs, outermost first."""
    stack: list[str] = []
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: stack.append(path or ROOT)))
        handles.append(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


class _Joins(TorchDispatchMode):
    """Follows what is computed from `data`, by storage, and keeps what else is joined to it inside of modules."""

    def __init__(self, stack: list[str], data: list[Tensor]):
        super().__init__()
        self._stack = stack
        # The reference keeps a freed storage's address from being used again.
        self._data: dict[int, StorageWeakRef] = {}
        self._codes: list[Code | None] = []
        self._of: dict[int, int] = {}
        for tensor in data:
            self._mark(tensor)

    def codes(self) -> list[Code]:
        """Of every tensor that something was joined to."""
        return [code for code in self._codes if code is not None]

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # Before the operation: done in place, it overwrites what it reads.
        known = torch._C._current_graph_task_id() == -1 and ROLES.get(func) != SHAPE_ONLY
        inputs = tensors_in([*args, *(kwargs or {}).values()]) if known else []
        touched = any(self._is_data(tensor) for tensor in inputs)
        joined = self._stack and touched and not all(self._is_data(tensor) for tensor in inputs)
        code = None
        if joined and func in ADDITIONS:
            code = self._code(inputs, torch.broadcast_shapes(*(t.shape for t in inputs)), channels=None)
        elif joined and func is aten.cat.default:
            code = self._code(inputs, inputs[0].shape, channels=args[1] if len(args) > 1 else 0)
        out = func(*args, **(kwargs or {}))
        if touched:
            for tensor in tensors_in(out):
                self._mark(tensor)
            if code is not None:
                self._keep(code, inputs, out)
        return out

    def _code(self, inputs: list[Tensor], shape: torch.Size, channels: int | None) -> Code | None:
        parts = [t for t in inputs if not self._is_data(t) and t.is_floating_point() and t.dim()]
        has: set[int] = set()
        varies: set[int] = set()
        with quiet():
            for part in parts:
                for axis in range(part.dim()):
                    if part.shape[axis] > 1 and part.stride(axis) != 0:
                        has.add(axis + len(shape) - part.dim())
                        if bool((part != part.narrow(axis, 0, 1)).any()):
                            varies.add(axis + len(shape) - part.dim())
            if not varies:
                return None
            if channels is not None:
                has.discard(channels % len(shape))
            *_, last = parts
            halves = last.chunk(2, -1 if channels is None else channels)
            doubled = len(halves) == 2 and torch.equal(*halves)
        sizes = tuple(n for n, stride in zip(last.shape, last.stride(), strict=True) if n > 1 and stride)
        return Code(self._stack[-1], sizes, frozenset(has), frozenset(varies), doubled)

    def _keep(self, code: Code, inputs: list[Tensor], out: Tensor) -> None:
        """With what was joined to the same tensor before."""
        for tensor in inputs:
            at = self._of.get(storage_key(tensor))
            before = None if at is None else self._codes[at]
            if at is not None and before is not None and tensor.dim() == out.dim():
                self._codes[at] = None
                code = Code(
                    code.site,
                    code.shape,
                    code.has | before.has,
                    code.varies | before.varies,
                    code.doubled and before.doubled,
                )
        self._of[storage_key(out)] = len(self._codes)
        self._codes.append(code)

    def _is_data(self, tensor: Tensor) -> bool:
        return tensor.layout == torch.strided and storage_key(tensor) in self._data

    def _mark(self, tensor: Tensor) -> None:
        if tensor.layout == torch.strided:  # others have no storage
            self._data[storage_key(tensor)] = StorageWeakRef(tensor.untyped_storage())


CHECK = PositionsAlike()
