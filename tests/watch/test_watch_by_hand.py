"""What the loop asks for by hand: right, paired, and without a trace in the training."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pitprop._errors import PitpropError
from pitprop.watch.by_hand import loss_conflict, paired_gap, steps_to_fit


class Conditioned(nn.Module):
    def __init__(self, uses: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.drop, self.uses = nn.BatchNorm1d(4), nn.Dropout(0.5), uses

    def forward(self, x, c):
        return self.drop(self.norm(x)) + (c if self.uses else 0)


def state_of(model):
    return copy.deepcopy(model.state_dict()), torch.get_rng_state()


def same(before, after):
    return torch.equal(before[1], after[1]) and all(torch.equal(before[0][k], after[0][k]) for k in before[0])


@pytest.mark.parametrize("uses", [True, False])
def test_gap_is_paired_and_leaves_nothing(uses):
    model = Conditioned(uses)
    x, c = torch.randn(32, 4), torch.randn(32, 4)
    before = state_of(model)
    buffers = dict(model.norm._buffers)
    gap = paired_gap(model, lambda: F.mse_loss(model(x, c), x + c), lambda: F.mse_loss(model(x, c.roll(1, 0)), x + c))
    assert same(before, state_of(model))
    assert all(model.norm._buffers[name] is buffer for name, buffer in buffers.items())
    assert gap > 0.1 if uses else gap == 0  # exactly: the same dropout on both sides


def test_gap_puts_things_back_after_an_error():
    model = Conditioned()
    before = state_of(model)

    def broken():
        model(torch.randn(8, 4), torch.zeros(8, 4))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        paired_gap(model, broken, broken)
    assert same(before, state_of(model))


def test_gap_of_a_loss_of_zero_is_undefined():
    assert math.isnan(paired_gap(nn.Linear(1, 1), lambda: 0.0, lambda: 1.0))
    assert paired_gap(nn.Linear(1, 1), lambda: -2.0, lambda: -1.0) == 0.5


def test_gap_between_forward_and_backward_spoils_no_graph():
    model = Conditioned()
    x, c = torch.randn(8, 4), torch.randn(8, 4)
    torch.manual_seed(1)
    model(x, c).square().mean().backward()
    expected = model.norm.weight.grad.clone()
    model.zero_grad()
    torch.manual_seed(1)
    loss = model(x, c).square().mean()
    paired_gap(model, lambda: model(x, c).mean(), lambda: model(x, -c).mean())
    loss.backward()
    assert torch.equal(model.norm.weight.grad, expected)


def test_conflict_is_the_cosine_of_what_both_losses_reach():
    torch.manual_seed(0)
    trunk, left, right = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
    model = nn.ModuleList([trunk, left, right])
    h = trunk(torch.randn(8, 3)).tanh()
    first, second = left(h).mean(), right(h).square().mean()
    a, b = (torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk.parameters(), retain_graph=True)])
            for loss in (first, second))  # fmt: skip
    assert float(loss_conflict(first, second, model)) == pytest.approx(
        float(F.cosine_similarity(a, b, dim=0)), abs=1e-6
    )
    assert float(loss_conflict(first, -first, model)) == pytest.approx(-1.0)
    assert all(p.grad is None for p in model.parameters())
    (first + second).backward()  # the graph is still there
    assert math.isnan(float(loss_conflict(left(torch.ones(4)).sum(), right(torch.ones(4)).sum(), model)))


def test_conflict_refuses_a_loss_without_a_graph():
    model = nn.Linear(1, 1)
    with pytest.raises(PitpropError, match="got a `second` loss without a graph\nIts gradient can't be taken"):
        loss_conflict(model(torch.ones(1)).sum(), torch.tensor(1.0), model)


def test_steps_to_fit_trains_a_copy_only():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Linear(64, 2))
    x = torch.randn(32, 8)
    before = state_of(model)
    steps = steps_to_fit(model, x, learning_rate=1e-2)
    assert same(before, state_of(model)) and 0 < steps < 500
    assert steps == steps_to_fit(model, x, learning_rate=1e-2)
    assert steps == steps_to_fit(model, (x,), learning_rate=1e-2)


def test_steps_to_fit_of_dead_units_is_infinite_also_where_outputs_are_constant():
    torch.manual_seed(0)
    dead = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    x = torch.randn(32, 8)
    nn.init.constant_(dead[0].bias, -100.0)
    assert steps_to_fit(dead, x, most=20) == math.inf  # the last bias reaches no sample by itself
    nn.init.zeros_(dead[2].bias)
    assert steps_to_fit(dead, x, most=20) == math.inf
    nn.init.constant_(dead[2].bias, math.nan)
    assert math.isnan(steps_to_fit(dead, x))


def test_steps_to_fit_asks_what_can_be_moved_not_how_large_the_outputs_are():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2))
    x = torch.randn(16, 8)
    nn.init.zeros_(model[2].weight)
    asleep = steps_to_fit(model, x)
    assert 0 < asleep < 500  # a head that begins at zero is plastic
    nn.init.constant_(model[2].bias, 1e3)  # certain of one class, and as plastic
    assert steps_to_fit(model, x) == pytest.approx(asleep, rel=0.1)
    assert steps_to_fit(model, x, size=2.0) > asleep


def test_steps_to_fit_refuses_what_it_can_not_fit():
    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), 1

    with pytest.raises(PitpropError, match="`steps_to_fit` got a tuple from the model"):
        steps_to_fit(Pair(1, 1), torch.ones(2, 1))
    with pytest.raises(PitpropError, match="got the size 0\nNoise of no size is fitted at once"):
        steps_to_fit(nn.Linear(1, 1), torch.ones(2, 1), size=0)
