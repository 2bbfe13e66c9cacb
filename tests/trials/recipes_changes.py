"""A recipe on which every torch intervention can act, and an example of each with all that it may touch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from pitprop.trials import Recipe
from pitprop.trials.interventions import (
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
from pitprop.trials.interventions.load_state import start_from
from pitprop.watch.state import write_checkpoint

WIDTH = 8


@dataclass(frozen=True)
class Knobs:
    gain: float = 1.0
    act: Literal["tanh", "relu"] = "tanh"


class Net(nn.Module):
    """A condition is added to tokens, one attention block, a head."""

    def __init__(self, knobs: Knobs):
        super().__init__()
        self.gain = knobs.gain
        self.condition = nn.Linear(2, WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh() if knobs.act == "tanh" else nn.ReLU())
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x, c):
        x = x + self.gain * self.condition(c)[:, None]
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return self.head((x + self.mlp(x)).mean(1))


class Training:
    def __init__(self, seed: int, knobs: Knobs):
        torch.manual_seed(seed)
        self.seed = seed
        self.model = Net(knobs)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05, weight_decay=0.1)

    def batches(self, cursor):
        while True:
            generator = torch.Generator().manual_seed(1000 * self.seed + cursor)
            yield torch.randn(6, 4, WIDTH, generator=generator), torch.randn(6, 2, generator=generator)
            cursor += 1

    def step(self, batch):
        x, c = batch
        loss = (self.model(x, c) - c).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def evaluate(self):
        x, c = next(self.batches(10**6))
        return {"error": (self.model(x, c) - c).square().mean()}


recipe = Recipe(build=Training, knobs=Knobs, metric="error", higher_is_better=False, steps=6)


def checkpoint(folder: Path) -> LoadState:
    """The start from another training's state, written below `folder`."""
    other = Training(5, Knobs())
    for _, batch in zip(range(2), other.batches(0), strict=False):
        other.step(batch)
    write_checkpoint(folder / "other", other.model, [other.optimizer])
    return start_from(folder / "other")


@dataclass(frozen=True)
class Touches:
    """What a change may touch; everything else must be as it was, bit for bit."""

    change: Any
    parameters: tuple[str, ...] = ()
    """Prefixes of the parameters that are other values at the fork."""
    memory: tuple[str, ...] = ()
    """Prefixes of the parameters whose optimizer state is another at the fork."""
    added: tuple[str, ...] = ()
    """Prefixes of parameters that are new."""
    output: bool = False
    """Whether the model computes something else at the fork."""
    gradients: bool | tuple[str, ...] = False
    """Prefixes of the parameters that get another gradient on the first batch; True for any."""
    updates: tuple[str, ...] = ()
    """Prefixes of the parameters that a step moves otherwise though their gradient is the same."""


ALL = ("",)

EXAMPLES = (
    Touches(Ablate("mlp"), output=True, gradients=True),
    Touches(Ablate("mlp", to="batch_mean"), output=True, gradients=True),
    Touches(Ablate("attn", head=1), output=True, gradients=True),
    Touches(ClipGradient(1e-3), updates=ALL),
    Touches(Detach("mlp"), gradients=("condition", "attn", "mlp")),
    Touches(ForceUniformAttention("attn"), output=True, gradients=True),
    Touches(Freeze("head"), updates=("head",)),
    Touches(Knob("gain", 2.0)),
    Touches(LearningRate(0.1), updates=ALL),
    Touches(LearningRate(0.1, path="head"), updates=("head",)),
    Touches(Precision("bfloat16"), updates=ALL),
    Touches(Precision("float64"), output=True, gradients=True),
    Touches(Reinitialise("head", seed=4), parameters=("head",), memory=("head",), output=True, gradients=True),
    Touches(Replace("mlp", "unit-rms"), output=True, gradients=True),
    Touches(Replace("head", "layer-scale", keep=True), added=("head.after",)),
    Touches(ResetOptimizer(), memory=ALL, updates=ALL),
    Touches(ResetOptimizer("head"), memory=("head",), updates=("head",)),
    Touches(Scale("condition", 0.5), output=True, gradients=True),
    Touches(Scale("mlp", "unit", side="input"), output=True, gradients=True),
    Touches(Scale("head", 0.5, side="parameters"), parameters=("head",), output=True, gradients=True),
    Touches(ShuffleCondition("condition"), output=True, gradients=True),
    Touches(ShuffleCondition("attn", argument="value"), output=True, gradients=True),
    Touches(Stage("mlp", start=2, ramp=2), output=True, gradients=True),
    Touches(SwapData(7)),
    Touches(WeightDecay(value=0.5), updates=ALL),
    Touches(WeightDecay(factor=0.0, path="head"), updates=("head",)),
)
"""`LoadState` stands apart, for it needs a file: see `checkpoint`."""
