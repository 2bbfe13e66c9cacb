"""Interventions on a training that evaluates an average of its weights: the average is changed as the model is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pitprop.remedies.torch.ema import EMA
from pitprop.trials.interventions import Ablate, ForceUniformAttention, Replace, Scale, ShuffleCondition


class ByHand(nn.Module):
    """As timm's and ema-pytorch's: a copy inside, and `update`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for own, new in zip(self.module.parameters(), model.parameters(), strict=True):
            own.copy_(new)


AVERAGES: dict[str, Callable[[nn.Module], Any]] = {
    "pitprop": lambda model: EMA(model, 0.5),
    "torch": lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5)),
    "by hand": ByHand,
}
CHANGES = [
    Ablate("1"),
    Ablate("1", to="batch_mean"),
    Scale("1", factor=3.0),
    Scale("1", factor=3.0, side="input"),
    ShuffleCondition("1"),
    ShuffleCondition("1", argument="input"),
    Replace("1", f"{__file__}:negated"),
]


class Negated(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.gain = inner, nn.Linear(3, 3)

    def forward(self, x):
        return -self.gain(self.inner(x))


def negated(old: nn.Module) -> nn.Module:
    return Negated(old)


class Averaging:
    def __init__(self, average: str):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.average = AVERAGES[average](self.model)
        self.teacher = copy.deepcopy(self.model)

    def step(self, batch):
        self.optimizer.zero_grad()
        self.model(batch).square().mean().backward()
        self.optimizer.step()
        if isinstance(self.average, EMA):
            self.average.update()
        else:
            update = getattr(self.average, "update_parameters", None) or self.average.update
            update(self.model)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.describe()[:40])
def test_the_average_is_changed_as_the_model_is_and_a_teacher_is_not(change, average):
    training, batch = Averaging(average), torch.randn(4, 3)
    plain = training.teacher(batch)
    inside = training.average.module
    assert torch.equal(inside(batch), plain)
    applied = change.apply(training)
    assert torch.equal(inside(batch), training.model(batch))
    assert torch.equal(training.teacher(batch), plain) and not torch.equal(inside(batch), plain)
    counted = dict(applied.calls)
    inside(batch)
    assert dict(applied.calls) == counted  # only the model's own calls are its acting
    training.step(batch)  # the first update takes the weights as they are
    model, averaged = (dict(one.named_parameters()) for one in (training.model, inside))
    assert list(model) == list(averaged) and all(torch.equal(model[name], averaged[name]) for name in model)


class Attention(nn.Module):
    """Two heads over three tokens."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 12)

    def forward(self, x):
        q, k, v = self.project(x).unflatten(-1, (3, 2, 2)).movedim(-3, 0).transpose(-3, -2)
        return F.scaled_dot_product_attention(q, k, v).transpose(-3, -2).flatten(-2)


@pytest.mark.parametrize("change", [ForceUniformAttention("0"), Ablate("0", head=1)], ids=["uniform", "head"])
def test_attention_is_changed_in_the_average_too(change):
    torch.manual_seed(0)
    training, batch = Averaging("pitprop"), torch.randn(5, 3, 4)
    training.model = nn.Sequential(Attention())
    training.average = EMA(training.model)
    plain = training.average.module(batch)
    applied = change.apply(training)
    changed = training.average.module(batch)
    assert not applied.calls and not torch.allclose(changed, plain)
    assert torch.equal(changed, training.model(batch)) and applied.calls["0"] == 1
