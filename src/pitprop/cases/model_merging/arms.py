"""The arms of the experiment: trainings from scratch, and ways to recover a collapsed checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pitprop.cases.model_merging.layers import Gate
from pitprop.cases.model_merging.recipe import Knobs, Merging, build_model
from pitprop.remedies.torch.unit_rms import UnitRMS

State = dict[str, torch.Tensor]

CLIP = 1.0
"""The bound of the seed's gradient stabiliser."""


def from_scratch(*, unit_rms: bool = False, **changes: Any) -> Callable[[int, Knobs], Merging]:
    """A training from its own initialisation, with changed knobs or with the remedy `unit-rms` in front of the tanh."""

    def start(seed: int, base: Knobs) -> Merging:
        training = Merging(seed, replace(base, **changes))
        if unit_rms:
            add_unit_rms(training.model)
        return training

    return start


def add_unit_rms(model: nn.Module) -> None:
    """Puts the remedy in front of the neck's squashing function."""
    neck: Any = model.get_submodule("neck")
    neck.squash = UnitRMS(neck.squash)


SEED_ARMS: Mapping[str, Callable[[int, Knobs], Merging]] = {
    "ungated": from_scratch(),
    "pooled gate": from_scratch(gate="pooled"),
    "elementwise gate": from_scratch(gate="elementwise"),
    "headwise gate": from_scratch(gate="headwise"),
    "gradient stabiliser": from_scratch(clip=CLIP),
}
"""What the seed compares: the original bottleneck with and without gates, and with its gradient stabiliser."""

CONTROL_ARMS: Mapping[str, Callable[[int, Knobs], Merging]] = {
    "uniform attention": from_scratch(attention="uniform"),
    "mean bottleneck": from_scratch(bottleneck="mean"),
    "mean bottleneck, uniform attention": from_scratch(bottleneck="mean", attention="uniform"),
    "unit-rms": from_scratch(unit_rms=True),
    "task objective": from_scratch(objective="task"),
    "task objective, mean bottleneck": from_scratch(objective="task", bottleneck="mean"),
    "task objective, mean bottleneck, elementwise gate": from_scratch(
        objective="task", bottleneck="mean", gate="elementwise"
    ),
}
"""What the seed doesn't compare and the claims need: forced-uniform attention, no saturation, the other objective."""


def _recover(gate: Gate = "none", *, neck: str = "kept") -> Callable[[int, Knobs, State, State], Merging]:
    def start(seed: int, base: Knobs, collapsed: State, last_good: State) -> Merging:
        torch.manual_seed(seed)
        knobs = replace(base, gate=gate)
        model = build_model(knobs)
        fresh = {name: value.clone() for name, value in model.state_dict().items()}
        state = last_good if neck == "rolled back" else collapsed
        if neck == "re-initialised":
            state = {**collapsed, **{name: value for name, value in fresh.items() if name.startswith("neck.")}}
        # A gate has no weights in the checkpoint and keeps its fresh ones, as the seed's strict=False loading does.
        model.load_state_dict({**fresh, **state})
        if neck == "unit-rms":
            add_unit_rms(model)
        return Merging(seed, knobs, model)

    return start


RECOVERIES: Mapping[str, Callable[[int, Knobs, State, State], Merging]] = {
    "recover: ungated": _recover(),
    "recover: pooled gate": _recover("pooled"),
    "recover: elementwise gate": _recover("elementwise"),
    "recover: neck re-initialised": _recover(neck="re-initialised"),
    "recover: rolled back": _recover(neck="rolled back"),
    "recover: unit-rms": _recover(neck="unit-rms"),
}
"""All start from the same collapsed checkpoint (one from the last good state) with a fresh Adam and see the same
batches.
"""
