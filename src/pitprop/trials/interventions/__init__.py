"""Interventions: one stated change to a run each, as frozen dataclasses of JSON values, one per file.

One more intervention is one new file and one entry of `INTERVENTIONS`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pitprop._errors import PitpropError, nearest
from pitprop.trials.interventions._targets import Applied, Intervention
from pitprop.trials.interventions.ablate import Ablate
from pitprop.trials.interventions.clip_gradient import ClipGradient
from pitprop.trials.interventions.detach import Detach
from pitprop.trials.interventions.force_uniform_attention import ForceUniformAttention
from pitprop.trials.interventions.freeze import Freeze
from pitprop.trials.interventions.knob import Knob
from pitprop.trials.interventions.learning_rate import LearningRate
from pitprop.trials.interventions.load_state import LoadState
from pitprop.trials.interventions.precision import Precision
from pitprop.trials.interventions.reinitialise import Reinitialise
from pitprop.trials.interventions.replace import Replace
from pitprop.trials.interventions.reset_optimizer import ResetOptimizer
from pitprop.trials.interventions.scale import Scale
from pitprop.trials.interventions.shuffle_condition import ShuffleCondition
from pitprop.trials.interventions.stage import Stage
from pitprop.trials.interventions.swap_data import SwapData
from pitprop.trials.interventions.weight_decay import WeightDecay

INTERVENTIONS: tuple[type, ...] = (
    Ablate,
    ClipGradient,
    Detach,
    ForceUniformAttention,
    Freeze,
    Knob,
    LearningRate,
    LoadState,
    Precision,
    Reinitialise,
    Replace,
    ResetOptimizer,
    Scale,
    ShuffleCondition,
    Stage,
    SwapData,
    WeightDecay,
)

__all__ = [
    "INTERVENTIONS",
    "Ablate",
    "Applied",
    "ClipGradient",
    "Detach",
    "ForceUniformAttention",
    "Freeze",
    "Intervention",
    "Knob",
    "LearningRate",
    "LoadState",
    "Precision",
    "Reinitialise",
    "Replace",
    "ResetOptimizer",
    "Scale",
    "ShuffleCondition",
    "Stage",
    "SwapData",
    "WeightDecay",
    "from_dict",
    "to_dict",
]


def to_dict(intervention: Any) -> dict[str, Any]:
    """JSON form: the class's name as `kind`, then its fields."""
    return {"kind": type(intervention).__name__, **dataclasses.asdict(intervention)}


def from_dict(data: Mapping[str, Any]) -> Intervention:
    """The intervention that `to_dict` wrote down."""
    kinds = {kind.__name__: kind for kind in INTERVENTIONS}
    kind = str(data.get("kind"))
    if kind not in kinds:
        raise PitpropError(f"There is no intervention `{kind}`: {nearest(kind, kinds)}")
    fields = [field.name for field in dataclasses.fields(kinds[kind])]
    values = {name: value for name, value in data.items() if name != "kind"}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise PitpropError(f"{kind} has no field `{unknown[0]}`: {nearest(unknown[0], fields)}")
    return kinds[kind](**values)
