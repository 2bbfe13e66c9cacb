"""Checkpoints: found, checked and loaded without executing anything that they hold.

A checkpoint is a folder as a watch writes it (`model.safetensors` with `optimizer.pt` beside it), a `.safetensors`
file (an `optimizer.pt` beside it is used too), or a file of `torch.save` that loads with `weights_only=True`.
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pitprop._errors import PitpropError
from pitprop.watch.state import MODEL, OPTIMIZER, unplain

READ = "docs/rescue.md"
WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict")
OPTIMIZER_KEYS = ("optimizer", "optimizers", "optimizer_state_dict")
SHOWN = 3
"""Tensors that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds."""

    weights: Mapping[str, Tensor]
    """The model's `state_dict`."""
    optimizers: Sequence[Mapping[str, Any]]
    """State of each optimizer; empty where the checkpoint has none."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint at `path`.

    Raises:
        PitpropError: There is none, it is damaged, it would have to be executed to be read, or it holds no weights.
    """
    weights, *beside = files_of(path)
    if weights.suffix == ".safetensors":
        try:
            tensors = load_file(weights)
        except (SafetensorError, OSError) as error:
            raise _damaged(weights, error) from error
        state = load_plain(beside[0]) if beside else []
        return Checkpoint(weights=tensors, optimizers=_as_list(state))
    content = load_plain(weights)
    if not isinstance(content, Mapping):
        raise _no_weights(weights, f"it holds a {type(content).__name__}")
    inside = next((content[key] for key in WEIGHTS_KEYS if isinstance(content.get(key), Mapping)), None)
    state = [] if inside is None else next((content[key] for key in OPTIMIZER_KEYS if key in content), [])
    tensors = dict(content if inside is None else inside)
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise _no_weights(weights, f"it holds {', '.join(f'`{key}`' for key in list(content)[:SHOWN]) or 'nothing'}")
    return Checkpoint(weights=tensors, optimizers=_as_list(state))


def load_plain(path: Path) -> Any:
    """Tensors and plain values of a file of `torch.save`.

    Raises:
        PitpropError: It is damaged, or it would execute code.
    """
    try:
        return unplain(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise PitpropError(
            f"`{path}` holds more than tensors and plain values: {_first_line(error)}",
            means="Reading it would execute code from the file; pitprop never does.",
            do="if you trust it, load it yourself and keep its weights: `safetensors.torch.save_file(weights, path)`.",
            read=READ,
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise _damaged(path, error) from error


def refuse_misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise unless `found` has the tensors of `expected`, by name and shape; names the first that differ."""
    wrong = [f"`{name}` is missing" for name in expected if name not in found]
    wrong += [f"`{name}` is {_shape(found[name])}, the model has none" for name in found if name not in expected]
    wrong += [
        f"`{name}` is {_shape(found[name])}, the model's is {_shape(value)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise PitpropError(
            f"The checkpoint `{path}` does not fit the recipe's model: {'; '.join(wrong[:SHOWN])}{more}.",
            means="They were built with other knobs or by other code.",
            do="give the knobs that the checkpoint was trained with (--knob NAME=VALUE).",
            read=READ,
        )


def files_of(path: Path) -> list[Path]:
    """The file with the weights, then the optimizer's where it is one of its own."""
    weights = path / MODEL if path.is_dir() else path
    if not weights.is_file():
        raise PitpropError(
            f"There is no checkpoint at `{path}`.",
            means=f"It is a file, or a folder that holds `{MODEL}`.",
            do="give the checkpoint, or the folder of a run that was watched with `snapshots`.",
            read=READ,
        )
    beside = weights.with_name(OPTIMIZER)
    return [weights, beside] if weights.suffix == ".safetensors" and beside.is_file() else [weights]


def _as_list(state: Any) -> list[Mapping[str, Any]]:
    return [state] if isinstance(state, Mapping) else list(state)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line]
    return (lines or str(error).splitlines() or ["?"])[0][:160]


def _damaged(path: Path, error: Exception) -> PitpropError:
    return PitpropError(f"`{path}` cannot be read as a checkpoint: {error}", do="give one that was written to its end.")


def _no_weights(path: Path, what: str) -> PitpropError:
    return PitpropError(
        f"`{path}` holds no weights that pitprop can see: {what}.",
        means=f"A `state_dict` is expected, by itself or under one of: {', '.join(WEIGHTS_KEYS)}.",
        do="save `model.state_dict()`, best with `safetensors.torch.save_file`.",
        read=READ,
    )
