"""The state of a training as files that execute nothing when they are read: weights, optimizers, random generators.

A checkpoint is a folder: `model.safetensors` (every tensor of the model's `state_dict`), `optimizer.pt` (its
optimizer's `state_dict`, or a list of them), `rng.pt`, and `training.pt` where there are other states (schedulers,
scaler, EMA); all but the first load with `weights_only=True`. It appears whole or not at all.
"""

import contextlib
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from pitprop._errors import PitpropError
from pitprop.watch._quiet import is_plain
from pitprop.watch.snapshots import folder_bytes

NDARRAY = "__ndarray__"
"""Key that marks a tensor which was a numpy (or other host) array before capture."""

MODEL, OPTIMIZER, TRAINING, RNG = "model.safetensors", "optimizer.pt", "training.pt", "rng.pt"


PER_TENSOR, PER_CHECKPOINT = 1024, 64 * 1024
"""Bytes that names, file headers and random states add, at most; on transformer layers 250 and 15 000 were measured."""


def write_checkpoint(
    folder: Path, model: nn.Module, optimizers: Sequence[Optimizer], others: Mapping[str, Any] | None = None
) -> int:
    """Write `model`, `optimizers` and the global generators to the new folder `folder`; returns its size in bytes.

    `others` are further states by name, as tensors and plain values.

    Raises:
        PitpropError: The state holds something else than tensors and plain values, or sharded tensors.
        OSError, RuntimeError: The disk is full or the folder can't be written; nothing is left behind. (torch's own
            writer raises the second.)
    """
    # Compiled or not, a weight has the name that it has in the code.
    weights = {name.replace("_orig_mod.", ""): value for name, value in model.state_dict().items()}
    odd = [name for name, value in weights.items() if not isinstance(value, Tensor) or not is_plain(value)]
    if odd:
        raise PitpropError(
            f"`{odd[0]}` of the model's state is no whole tensor",
            means="A checkpoint holds whole tensors; sharded ones and `get_extra_state` don't fit.",
            do="save this model with your own code.",
        )
    states = [plain(optimizer.state_dict(), f"optimizers.{i}") for i, optimizer in enumerate(optimizers)]
    with whole_folder(folder) as part:
        try:
            # Clones: safetensors refuses two names for one storage (tied weights).
            save_file(
                {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}, part / MODEL
            )
        except SafetensorError as error:
            raise OSError(str(error)) from error
        torch.save(states[0] if len(states) == 1 else states, part / OPTIMIZER)
        torch.save(rng_state(), part / RNG)
        if others:
            torch.save(dict(others), part / TRAINING)
        return folder_bytes(part)


def state_bytes(model: nn.Module, optimizers: Sequence[Optimizer]) -> int:
    """Bytes that `write_checkpoint` would take, at most: tensors, names and what the file formats add."""
    weights = [value for value in model.state_dict().values() if isinstance(value, Tensor)]
    moments = [
        value
        for optimizer in optimizers
        for slots in optimizer.state.values()
        for value in slots.values()
        if isinstance(value, Tensor)
    ]
    tensors = [tensor.numel() * tensor.element_size() for tensor in (*weights, *moments)]
    return sum(tensors) + PER_TENSOR * len(tensors) + PER_CHECKPOINT


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `folder` at the end of the block; after an error it is gone."""
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    for torn in folder.parent.glob(f"{folder.name}.*.part"):  # of a writer that was killed
        shutil.rmtree(torn, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def rng_state() -> dict[str, Any]:
    """The global generators of python, numpy and torch as tensors and plain values."""
    version, words, gauss = random.getstate()
    state = {
        "python": [version, list(words), gauss],
        "numpy": plain(np.random.get_state(legacy=False), "rng.numpy"),  # noqa: NPY002
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` took."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(unplain(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def plain(value: Any, path: str) -> Any:
    """`value` with tensors copied to the host and everything else plain, or an error that names the place."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Counter):  # MultiStepLR keeps its milestones in one; weights_only knows it
        return Counter(value)
    if isinstance(value, dict):
        return {key: plain(item, f"{path}.{key}") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item, f"{path}.{index}") for index, item in enumerate(value))
    if value is None or isinstance(value, (bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)):
        return value
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        return {NDARRAY: torch.from_numpy(np.array(value))}
    raise PitpropError(
        f"The state holds a {type(value).__module__}.{type(value).__qualname__} at `{path}`.",
        means="A snapshot is tensors and plain values only, so that reading one never executes anything.",
        do="define `state()` and `load_state(state)` on the training with dicts, lists, arrays and numbers.",
    )


def unplain(value: Any) -> Any:
    """Undo the marks of `plain`; tensors are copied so that one snapshot can be restored many times."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Counter):
        return Counter(value)
    if isinstance(value, dict):
        if value.keys() == {NDARRAY}:
            return value[NDARRAY].numpy().copy()
        return {key: unplain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(unplain(item) for item in value)
    return value
