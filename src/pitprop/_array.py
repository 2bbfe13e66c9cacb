"""The only place that tells numpy, torch and jax apart: namespaces, safe sums, the way to the host."""

import sys
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

Array: TypeAlias = Any
"""A numpy, torch or jax array, in jaxtyping's shapes; importing one of them to name its type would cost the others."""

NAN = float("nan")


def namespace(*arrays):
    """Array-API namespace that all `arrays` belong to (numpy, torch or jax.numpy)."""
    return array_api_compat.array_namespace(*arrays)


def accumulate(x):
    """`x` in a floating type that is safe to sum in: halves and integers become float32, float32/64 stay.

    Torch tensors are detached: a measure that is kept must not keep the graph of its step alive.
    """
    xp = namespace(x)
    if array_api_compat.is_torch_array(x):
        x = x.detach()
    return x if x.dtype in (xp.float32, xp.float64) else xp.astype(x, xp.float32)


def size(x) -> int:
    """Number of elements (`size` is a method in torch and an attribute elsewhere)."""
    return array_api_compat.size(x) or 0


def like(values, x):
    """`values` (Python or numpy) as an array of the namespace and on the device of `x`."""
    return namespace(x).asarray(values, device=array_api_compat.device(x))


def every(count: int, total: int) -> np.ndarray:
    """`count` positions spread evenly over `range(total)`, or all of them where there are no more than that."""
    if count >= total:
        return np.arange(total)
    return (2 * np.arange(count) + 1) * total // (2 * count)


def matmul(a, b):
    """`a @ b` in the type of its factors, also inside torch's autocast, which would multiply in halves."""
    if array_api_compat.is_torch_array(a):
        with sys.modules["torch"].autocast(a.device.type, enabled=False):
            return a @ b
    return a @ b


def divide(a, b):
    """`a / b`, and NaN where `b` is zero."""
    xp = namespace(b)
    zero = b == 0
    return xp.where(zero, NAN, a / xp.where(zero, 1.0, b))


def norm(x, axis=None):
    """Euclidean norm over `axis`, without overflow or underflow of the squares; 0 where there is nothing to sum."""
    xp = namespace(x)
    if size(x) == 0:
        return xp.sum(x, axis=axis)
    peak = xp.max(xp.abs(x), axis=axis, keepdims=True)
    usable = xp.isfinite(peak)  # an infinite entry makes the norm infinite, a NaN makes it NaN: both are the peak
    scale = xp.where(usable & (peak > 0), peak, 1.0)
    squares = xp.where(usable, x, 0.0) / scale
    total = xp.where(usable, scale * xp.sqrt(xp.sum(squares * squares, axis=axis, keepdims=True)), peak)
    return xp.sum(total, axis=axis)  # drops the axes of length 1


def mean_where(x, keep, axis=None):
    """Mean of the entries of `x` that `keep` names, NaN where it names none; a kept NaN stays a NaN."""
    xp = namespace(x)
    keep = xp.broadcast_to(keep, x.shape)
    count = xp.sum(xp.astype(keep, x.dtype), axis=axis)
    return divide(xp.sum(xp.where(keep, x, 0.0), axis=axis), count)


def to_host(x) -> np.ndarray:
    """`x` as a numpy array on the host; torch tensors are detached, halves become float32."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        x = x.detach()
        return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).cpu().numpy()
    out = np.asarray(x)
    return out.astype(np.float32) if out.dtype.name in ("float16", "bfloat16") else out
