"""Checkpoints: found and read without executing anything that they hold.

A checkpoint is a folder with `model.safetensors`, with its shards and their index, or with `pytorch_model.bin`; a
`.safetensors` file; or a file of `torch.save` that loads with `weights_only=True`. `optimizer.pt` and `training.pt`
beside the weights are read too.
"""

import json
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
from pitprop.watch.state import MODEL, OPTIMIZER, TRAINING, unplain

READ = "docs/rescue.md"
INDEX, BINARY = f"{MODEL}.index.json", "pytorch_model.bin"
WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict")
OPTIMIZER_KEYS = ("optimizer", "optimizers", "optimizer_state_dict", "optimizer_states")
SHOWN = 3
"""Tensors that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds."""

    weights: Mapping[str, Tensor]
    """The model's `state_dict`."""
    optimizers: Sequence[Mapping[str, Any]]
    """State of each optimizer; empty where the checkpoint has none."""
    others: Mapping[str, Any]
    """What else it holds, by name: states of schedulers, scaler, EMA, and plain values."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint at `path`.

    Raises:
        PitpropError: There is none, it is damaged, it would have to be executed to be read, or it holds no weights.
    """
    files = files_of(path)
    beside = {file.name: load_plain(file) for file in files if file.name in (OPTIMIZER, TRAINING)}
    optimizers, others = _as_list(beside.get(OPTIMIZER, [])), beside.get(TRAINING, {})
    shards = [file for file in files if file.suffix == ".safetensors"]
    if shards:
        weights: dict[str, Tensor] = {}
        for shard in shards:
            try:
                weights |= load_file(shard)
            except (SafetensorError, OSError) as error:
                raise _damaged(shard, error) from error
        return Checkpoint(weights=weights, optimizers=optimizers, others=others)
    content = load_plain(files[0])
    if not isinstance(content, Mapping):
        raise _no_weights(files[0], f"it holds a {type(content).__name__}")
    key = next((key for key in WEIGHTS_KEYS if isinstance(content.get(key), Mapping)), None)
    weights = dict(content if key is None else content[key])
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise _no_weights(files[0], f"it holds {', '.join(f'`{key}`' for key in list(content)[:SHOWN]) or 'nothing'}")
    if key is not None:
        optimizers = next((_as_list(content[name]) for name in OPTIMIZER_KEYS if content.get(name)), optimizers)
        others = others | {name: value for name, value in content.items() if name not in (key, *OPTIMIZER_KEYS)}
    return Checkpoint(weights=weights, optimizers=optimizers, others=others)


def files_of(path: Path) -> list[Path]:
    """The files of the checkpoint at `path`: those with the weights first.

    Raises:
        PitpropError: There is none.
    """
    if not path.is_dir():
        weights = [path]
    elif not (path / MODEL).exists() and (path / INDEX).is_file():
        weights = _shards(path / INDEX)
    else:
        weights = [path / (MODEL if (path / MODEL).exists() or not (path / BINARY).exists() else BINARY)]
    missing = next((file for file in weights if not file.is_file()), None)
    if missing is not None:
        raise PitpropError(
            f"There is no checkpoint at `{missing if missing.parent != path else path}`."
            if len(weights) == 1
            else f"The shard `{missing}` of the checkpoint is missing.",
            means=f"It is a file, or a folder that holds `{MODEL}`, `{INDEX}` with its shards, or `{BINARY}`.",
            do="give the checkpoint, or the folder of a run that was watched with `snapshots`.",
            read=READ,
        )
    if not path.is_dir() and path.suffix != ".safetensors":
        return weights
    beside = [weights[0].with_name(name) for name in (OPTIMIZER, TRAINING)]
    return weights + [file for file in beside if file.is_file()]


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


def _shards(index: Path) -> list[Path]:
    """The files that the index of a sharded checkpoint names; all of them beside it."""
    try:
        names = {Path(name).name for name in json.loads(index.read_text())["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(index, error) from error
    return [index.with_name(name) for name in sorted(names)]


def _as_list(state: Any) -> list[Mapping[str, Any]]:
    return [state] if isinstance(state, Mapping) else list(state)


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
