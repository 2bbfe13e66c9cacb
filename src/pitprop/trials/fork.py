"""The fork: everything that decides how a training goes on, captured, restored and compared bit for bit.

Captured are the training's `state()` where it defines one, otherwise every attribute (also inside lists, tuples and
dicts) with a `state_dict`/`load_state_dict` pair, and every `torch.Generator`, `numpy.random.Generator`,
`numpy.random.RandomState` and `random.Random`; always the global generators of python, numpy and torch (CUDA too), and
the data cursor. A snapshot holds tensors and plain values only, so it is saved and loaded without executing anything
(`weights_only=True`).
"""

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pitprop._errors import PitpropError
from pitprop.watch.state import plain, rng_state, set_rng_state, unplain


def capture(training: Any, cursor: int) -> dict[str, Any]:
    """Snapshot of `training` before batch number `cursor`; tensors are copies on the host."""
    if hasattr(training, "state") and hasattr(training, "load_state"):
        state = {"state": plain(training.state(), "state")}
    else:
        state = {path: plain(_get(part), path) for path, part in parts_of(training)}
    return {"training": state, "rng": rng_state(), "cursor": cursor}


def restore(training: Any, snapshot: dict[str, Any]) -> int:
    """Put `snapshot` into a freshly built `training` and into the global generators; returns the data cursor.

    Raises:
        PitpropError: The training does not have the parts that the snapshot has.
    """
    state = snapshot["training"]
    if hasattr(training, "state") and hasattr(training, "load_state"):
        training.load_state(unplain(state["state"]))
    else:
        parts = dict(parts_of(training))
        if parts.keys() != state.keys():
            raise PitpropError(
                f"The snapshot holds {sorted(state)}, the training has {sorted(parts)}.",
                means="They were not built by the same recipe with the same knobs.",
                do="delete the folder's `forks` and start again.",
            )
        for path, part in parts.items():
            put(part, unplain(state[path]), path)
    set_rng_state(snapshot["rng"])
    return snapshot["cursor"]


def save(snapshot: dict[str, Any], path: Path) -> None:
    """Write `snapshot` to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        torch.save(snapshot, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # a full disk leaves nothing half-written


def load(path: Path) -> dict[str, Any]:
    """Read a snapshot, executing nothing that it holds."""
    return torch.load(path, map_location="cpu", weights_only=True)


def digest(snapshot: dict[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes of everything in `snapshot`: equal when equal bit for bit."""
    total = hashlib.sha256()
    for path, leaf in sorted(leaves(snapshot)):
        total.update(path.encode() + b"\0" + leaf + b"\0")
    return total.hexdigest()


def first_difference(expected: dict[str, Any], got: dict[str, Any]) -> str | None:
    """Path of the first tensor or value that differs in any bit, such as `model.blocks.0.weight`; None when equal."""
    ours, theirs = dict(leaves(expected)), dict(leaves(got))
    for path, leaf in ours.items():
        if theirs.get(path) != leaf:
            return path
    return next((path for path in theirs if path not in ours), None)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Every leaf of a snapshot as `(dotted path, bytes with type and shape)`, in the order of capture."""
    if isinstance(value, dict):
        for key, item in value.items():
            # "training" is where the user's own names begin; the path should read as they wrote it.
            yield from leaves(item, path if not path and key == "training" else f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and not all(type(item) is int for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}.{index}")
    elif isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        yield path, f"{value.dtype}{tuple(value.shape)}".encode() + hashlib.sha256(data).digest()
    else:
        yield path, f"{type(value).__name__}:{value!r}".encode()


def seed_everything(seed: int) -> None:
    """Seed the global generators, so that a recipe that draws from them is repeatable."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is what user code may draw from
    torch.manual_seed(seed)


@contextlib.contextmanager
def kept_rng() -> Iterator[None]:
    """Whatever the body draws from the global generators, the training does not notice."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def parts_of(training: Any) -> Iterator[tuple[str, Any]]:
    """Everything with state among the attributes, once each, by path."""
    seen: set[int] = set()

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if id(value) in seen:
            return
        if _stateful(value):
            seen.add(id(value))
            yield path, value
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, f"{path}.{key}")
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                yield from walk(item, f"{path}.{index}")

    for name, value in vars(training).items():
        yield from walk(value, name)


def _stateful(value: Any) -> bool:
    generators = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    has_dict = hasattr(value, "state_dict") and hasattr(value, "load_state_dict") and not isinstance(value, type)
    return has_dict or isinstance(value, generators)


def _get(part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if isinstance(part, np.random.RandomState):
        return part.get_state(legacy=False)
    if isinstance(part, random.Random):
        version, words, gauss = part.getstate()
        return [version, list(words), gauss]
    return part.state_dict()


def put(part: Any, state: Any, path: str) -> None:
    """Give `part` back the `state` that it had."""
    if isinstance(part, torch.Generator):
        part.set_state(state)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    elif isinstance(part, np.random.RandomState):
        part.set_state(state)
    elif isinstance(part, random.Random):
        part.setstate((state[0], tuple(state[1]), state[2]))
    else:
        try:
            part.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise PitpropError(
                f"`{path}` does not take the state that was captured from it: {error}",
                means="The fork cannot be restored into a training that was built differently.",
                do="let `build(seed, knobs)` build the same objects each time.",
            ) from error
