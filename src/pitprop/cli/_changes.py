"""How a user names changes on the command line: one option per intervention, several values are a ladder."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pitprop._errors import PitpropError

if TYPE_CHECKING:
    from pitprop.trials.interventions import Intervention


Texts = tuple[str, ...]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Changes:
    """The changes to try; every value is an arm, and each option may be repeated."""

    ablate: Annotated[
        Texts,
        Parameter(negative=(), help="PATH: its output times 0; PATH=batch_mean; PATH#H,...: head H, or H+H at once."),
    ] = ()
    scale: Annotated[Texts, Parameter(negative=(), help="PATH=F,F,...: its output times F, or unit.")] = ()
    scale_parameters: Annotated[
        Texts, Parameter(negative=(), help="PATH=F,F,...: its parameters times F at the fork.")
    ] = ()
    knob_arm: Annotated[Texts, Parameter(negative=(), help="NAME=VALUE,...: a knob of the recipe.")] = ()
    lr: Annotated[Texts, Parameter(negative=(), help="F,... or PATH=F,...: learning rate times F.")] = ()
    clip: Annotated[Texts, Parameter(negative=(), help="N,...: gradient norm clipped to N.")] = ()
    weight_decay: Annotated[Texts, Parameter(negative=(), help="V,... or PATH=V,...: set to V.")] = ()
    freeze: Annotated[Texts, Parameter(negative=(), help="PATH: its parameters stop learning.")] = ()
    detach: Annotated[Texts, Parameter(negative=(), help="PATH: no gradient flows back through it.")] = ()
    replace: Annotated[Texts, Parameter(negative=(), help="PATH=REMEDY,...: a remedy in its place.")] = ()
    replace_keeping: Annotated[
        Texts, Parameter(negative=(), help="PATH=REMEDY,...: the same, refused unless it keeps the function.")
    ] = ()
    reinitialise: Annotated[Texts, Parameter(negative=(), help="PATH: weights drawn anew at the fork.")] = ()
    reset_optimizer: Annotated[
        Texts, Parameter(negative=(), help="PATH, or * for all: optimizer state dropped at the fork.")
    ] = ()
    stage: Annotated[
        Texts, Parameter(negative=(), help="PATH=START or PATH=START+RAMP,...: let in that much later.")
    ] = ()
    uniform_attention: Annotated[
        Texts, Parameter(negative=(), help="PATH: attention inside it forced to be uniform.")
    ] = ()
    shuffle_condition: Annotated[
        Texts, Parameter(negative=(), help="PATH or PATH=ARGUMENT: output, or argument, rolled over the batch.")
    ] = ()
    swap_data: Annotated[Texts, Parameter(negative=(), help="SEED,...: batches of another seed.")] = ()
    precision: Annotated[Texts, Parameter(negative=(), help="bfloat16, float16 or float64.")] = ()
    change: Annotated[
        Texts, Parameter(negative=(), help="JSON of any intervention, as plan.json has it: its `kind` and fields.")
    ] = ()

    def options(self) -> list[str]:
        """The options as they were typed."""
        return [part for name, text in self._given() for part in (f"--{name.replace('_', '-')}", text)]

    def interventions(self) -> "list[Intervention]":
        """The changes, in the order of the options.

        Raises:
            PitpropError: A value is missing or of the wrong kind.
        """
        return [change for name, text in self._given() for change in _read(name, text)]

    def _given(self) -> Iterator[tuple[str, str]]:
        for field in dataclasses.fields(self):
            for text in getattr(self, field.name):
                yield field.name, text


def _read(name: str, text: str) -> "list[Intervention]":
    from pitprop.trials import interventions as known

    def stage(path: str, value: str) -> known.Intervention:
        start, _, ramp = value.partition("+")
        return known.Stage(path, int(start), int(ramp or 0))

    def ablate(text: str) -> list[known.Intervention]:
        place, _, to = text.partition("=")
        path, hashed, heads = place.partition("#")
        to = to or "zero"
        if not hashed:
            return [known.Ablate(path, to)]  # type: ignore[arg-type]
        together = [[int(head) for head in arm.split("+")] for arm in heads.split(",")]
        return [known.Ablate(path, to, arm[0] if len(arm) == 1 else tuple(arm)) for arm in together]  # type: ignore[arg-type]

    def scale(side: Any) -> Callable[[str, str], Any]:
        return lambda path, value: known.Scale(path, "unit" if value == "unit" else float(value), side)

    alone: dict[str, Callable[[str], Any]] = {
        "freeze": known.Freeze,
        "detach": known.Detach,
        "reinitialise": known.Reinitialise,
        "reset_optimizer": known.ResetOptimizer,
        "uniform_attention": known.ForceUniformAttention,
    }
    valued: dict[str, Callable[[str, str], Any]] = {
        "scale": scale("output"),
        "scale_parameters": scale("parameters"),
        "knob_arm": known.Knob,
        "replace": known.Replace,
        "replace_keeping": lambda path, value: known.Replace(path, value, keep=True),
        "stage": stage,
    }
    anywhere: dict[str, Callable[[str, str], Any]] = {
        "lr": lambda path, value: known.LearningRate(float(value), path or "*"),
        "weight_decay": lambda path, value: known.WeightDecay(value=float(value), path=path or "*"),
    }
    plain: dict[str, Callable[[str], Any]] = {
        "clip": lambda value: known.ClipGradient(float(value)),
        "swap_data": lambda value: known.SwapData(int(value)),
        "precision": known.Precision,  # type: ignore[dict-item]
    }
    path, equals, values = text.rpartition("=")
    try:
        if name == "ablate":
            return ablate(text)
        if name in alone:
            return [alone[name](text)]
        if name in plain:
            return [plain[name](value) for value in text.split(",")]
        if name == "change":
            change = dict(json.loads(text))
            change.pop("source", None)  # of a factory as it was when the plan was written
            return [known.from_dict(change)]
        if name == "shuffle_condition":
            return [known.ShuffleCondition(*text.split("=", 1))]
        if name in anywhere:
            return [anywhere[name](path, value) for value in values.split(",")]
        if not equals:
            raise PitpropError(f"--{name.replace('_', '-')} {text} has no value.", do="write PATH=VALUE.")
        return [valued[name](path, value) for value in values.split(",")]
    except (ValueError, TypeError) as error:
        raise PitpropError(f"--{name.replace('_', '-')} {text} cannot be read: {error}.") from error
