"""One forward pass that leaves no trace: modes, buffers and random states are put back, also after an error."""

import contextlib
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pitprop.checks._check import LossFn

ROOT = "<model>"
"""Site of the model itself, whose dotted name is empty."""


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Within, `model` may be run; on leaving, its modes, buffers and all random states are what they were.

    Gradients are off and compiled code runs eagerly. What a module keeps in plain Python attributes isn't restored.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, dict(module._buffers), {k: v.clone() for k, v in module.named_buffers(recurse=False)})
        for module in model.modules()
    ]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global state is the point)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    # Nothing is compiled before Dynamo is imported, and importing it takes seconds.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    try:
        with torch.random.fork_rng(devices), eager, torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, tensors, values in buffers:
                module._buffers.clear()
                module._buffers.update(tensors)
                for name, value in values.items():
                    module.get_buffer(name).copy_(value)


def forward(model: nn.Module, batch: Any, loss_fn: LossFn | None = None) -> Any:
    """One pass of `batch` through `model`.

    Args:
        model: The model.
        batch: What the model takes: a tensor, a tuple or list of positional arguments, or a mapping of keyword
            arguments.
        loss_fn: `loss_fn(model, batch)`, for batches of any other form.
    """
    if loss_fn is not None:
        return loss_fn(model, batch)
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)
