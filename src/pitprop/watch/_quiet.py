"""Measuring tensors in silence: no gradient, no autocast, nobody else's dispatch mode, one move to the host."""

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


class quiet:
    """Context in which a measurement is seen neither by autograd, nor by autocast, nor by a dispatch mode."""

    __slots__ = ("_grad", "_others")

    def __enter__(self) -> None:
        # Hundreds of these are entered in a measured step: the rare ones are only set up where they are needed.
        self._others = None
        if (
            torch._C._len_torch_dispatch_stack()
            or torch.is_autocast_enabled("cpu")
            or torch.is_autocast_enabled("cuda")
        ):
            self._others = contextlib.ExitStack()
            if torch._C._len_torch_dispatch_stack():
                self._others.enter_context(_disable_current_modes())
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    self._others.enter_context(torch.autocast(device, enabled=False))
        self._grad = torch.no_grad()
        self._grad.__enter__()

    def __exit__(self, kind, error, trace) -> None:
        self._grad.__exit__(kind, error, trace)
        if self._others is not None:
            self._others.__exit__(kind, error, trace)


def norm(tensor: Tensor) -> Tensor:
    """Euclidean norm of a dense or sparse, real or complex tensor, summed in float32 at least."""
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    if values.is_complex():
        values = torch.view_as_real(values.detach().resolve_conj())
    # A CPU norm of a large float32 tensor is summed in float32, blockwise; halves would overflow at 65504.
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    return torch.linalg.vector_norm(values.detach(), dtype=wide)


def to_host(scalars: Sequence[Tensor | float]) -> list[float]:
    """Numbers of 0-d tensors (and plain numbers), with one transfer per device."""
    values: list[float] = [float("nan")] * len(scalars)
    by_device: dict[torch.device, list[int]] = {}
    for i, scalar in enumerate(scalars):
        if isinstance(scalar, Tensor):
            by_device.setdefault(scalar.device, []).append(i)
        else:
            values[i] = float(scalar)
    for places in by_device.values():
        stacked = torch.stack([scalars[i].detach().reshape(()).to(torch.float32) for i in places])  # type: ignore[union-attr]
        for i, value in zip(places, stacked.tolist(), strict=True):
            values[i] = value
    return values


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor can be measured here and now: sharded (DTensor) and meta tensors can't.

    A norm of a DTensor is a collective, and workers that measure different steps would wait for each other forever.
    """
    return not tensor.is_meta and not hasattr(tensor, "to_local")
