"""LoadState: start a training from a checkpoint; its names are matched with the model's, and a misfit is explained."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pitprop._errors import PitpropError
from pitprop.trials.checkpoint import READ, SHOWN, files_of, read_checkpoint
from pitprop.trials.fork import parts_of, put
from pitprop.trials.interventions._targets import Applied, model_of, optimizers_of
from pitprop.watch.state import OPTIMIZER, plain

PREFIXES = ("module.", "model.", "model.module.")
"""What DistributedDataParallel and LightningModule put in front of a model's names."""


@dataclass(frozen=True)
class LoadState:
    """Start from a checkpoint: its weights, and the optimizer and other states that it has.

    Other states (schedulers, scaler, EMA) are matched by the name of the training's attribute; one that the checkpoint
    does not have starts anew.

    Args:
        path: Absolute path of the checkpoint.
        digest: SHA-256 of its files, so that a run's address is that of its content; `start_from(path)` computes it.
    """

    path: str
    digest: str

    def describe(self) -> str:
        return f"from {Path(self.path).name}"

    def blames(self) -> str:
        return "the weights that the run had"

    def apply(self, training: Any) -> Applied:
        if _digest(Path(self.path)) != self.digest:
            raise PitpropError(
                f"The checkpoint `{self.path}` is not the one that the plan names (its SHA-256 differs).",
                means="It was written anew since the plan was made; the records would speak of another state.",
                do="start anew, in another folder.",
            )
        found = read_checkpoint(Path(self.path))
        model = model_of(training)
        model.load_state_dict(fitted(model, found.weights, self.path))
        if found.optimizers:
            _load_optimizers(list(optimizers_of(training).values()), found.optimizers, self.path)
        for name, part in others_of(training):
            if name in found.others:
                put(part, found.others[name], name)
        applied = Applied((self.path,))
        applied.calls[self.path] += 1
        return applied


def start_from(path: Path) -> LoadState:
    """The start from the checkpoint at `path`, as it is on disk now."""
    path = path.resolve()
    return LoadState(str(path), _digest(path))


def others_of(training: Any) -> Iterator[tuple[str, Any]]:
    """What has a state besides model, optimizers and generators, by the name of the attribute that holds it."""
    known = {id(part) for part in (*model_of(training).modules(), *optimizers_of(training).values())}
    for name, part in parts_of(training):
        if hasattr(part, "load_state_dict") and id(part) not in known:
            yield name, part


def other_states(training: Any) -> dict[str, Any]:
    """Their states, as tensors and plain values."""
    return {name: plain(part.state_dict(), name) for name, part in others_of(training)}


def fitted(model: nn.Module, found: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """`found` under the model's own names: without the prefix of a wrapper, and tied weights under all of theirs.

    Raises:
        PitpropError: The tensors are not the model's, by name or by shape.
    """
    expected = model.state_dict()
    # Compiled or not, a weight has the name that it has in the code.
    found = {name.replace("_orig_mod.", ""): value for name, value in found.items()}
    for prefix in ("", *PREFIXES):
        own = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        # Where weights are tied, some writers keep one name.
        twins = {value.data_ptr(): own[name] for name, value in expected.items() if name in own and value.numel()}
        own |= {n: twins[v.data_ptr()] for n, v in expected.items() if n not in own and v.data_ptr() in twins}
        if own.keys() == expected.keys():
            found = own
            break
    refuse_misfit(expected, found, path)
    return found


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


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    for file in files_of(path):
        with file.open("rb") as data:
            total.update(file.name.encode() + b"\0" + hashlib.file_digest(data, "sha256").digest())
    return total.hexdigest()


def _load_optimizers(optimizers: Sequence[torch.optim.Optimizer], states: Sequence[Mapping], path: str) -> None:
    if len(optimizers) != len(states):
        raise PitpropError(
            f"The checkpoint `{path}` holds the state of {len(states)} optimizers, the training has {len(optimizers)}.",
            do=f"put the right `{OPTIMIZER}` beside the weights, or none to start with fresh optimizers.",
        )
    for optimizer, state in zip(optimizers, states, strict=True):
        try:
            optimizer.load_state_dict(dict(state))
        except (ValueError, KeyError, RuntimeError) as error:
            raise PitpropError(
                f"The training's {type(optimizer).__name__} does not take the state in `{path}`: {error}",
                means="The checkpoint was trained with another optimizer, or other parameter groups.",
                do=f"move the checkpoint's `{OPTIMIZER}` away to start with fresh optimizers.",
            ) from error


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
