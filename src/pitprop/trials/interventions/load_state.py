"""LoadState: start from a checkpoint; the intervention that every rescue begins with."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pitprop._errors import PitpropError
from pitprop.trials.checkpoint import files_of, read_checkpoint, refuse_misfit
from pitprop.trials.interventions._targets import Applied, model_of, optimizers_of
from pitprop.watch.state import OPTIMIZER


@dataclass(frozen=True)
class LoadState:
    """The weights of a checkpoint in place of the run's own, and its optimizer state where it has one.

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
        refuse_misfit(model.state_dict(), found.weights, self.path)
        model.load_state_dict(dict(found.weights))
        if found.optimizers:
            _load_optimizers(list(optimizers_of(training).values()), found.optimizers, self.path)
        applied = Applied((self.path,))
        applied.calls[self.path] += 1
        return applied


def start_from(path: Path) -> LoadState:
    """The start from the checkpoint at `path`, as it is on disk now."""
    path = path.resolve()
    return LoadState(str(path), _digest(path))


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
