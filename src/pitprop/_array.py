"""The only place that tells numpy, torch and jax apart: the namespace of an array, and its way to the host."""

import sys

import array_api_compat
import numpy as np


def namespace(*arrays):
    """Array-API namespace that all `arrays` belong to (numpy, torch or jax.numpy)."""
    return array_api_compat.array_namespace(*arrays)


def accumulate(x):
    """`x` in a floating type that is safe to sum in: halves and integers become float32, float32/64 stay."""
    xp = namespace(x)
    return x if x.dtype in (xp.float32, xp.float64) else xp.astype(x, xp.float32)


def to_host(x) -> np.ndarray:
    """`x` as a numpy array on the host; torch tensors are detached, halves become float32."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        x = x.detach()
        return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).cpu().numpy()
    out = np.asarray(x)
    return out.astype(np.float32) if out.dtype.name in ("float16", "bfloat16") else out
