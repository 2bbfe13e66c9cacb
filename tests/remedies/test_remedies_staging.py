"""Remedies for new modules, imbalanced classes and hypernetworks keep what their head comments promise."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from pitprop.remedies.torch.clamped_delta import ClampedDelta
from pitprop.remedies.torch.ema import EMA
from pitprop.remedies.torch.film import FiLM
from pitprop.remedies.torch.prior_bias import prior_bias
from pitprop.remedies.torch.stablemax_cross_entropy import stablemax_cross_entropy
from pitprop.remedies.torch.staged import Staged


def x(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(value):
    return value


@pytest.mark.parametrize(
    ("start", "ramp", "expected"),
    [(2, 0, [0, 0, 1, 1, 1, 1]), (1, 2, [0, 0, 0.5, 1, 1, 1]), (0, 0, [1] * 6), (0, 4, [0, 0.25, 0.5, 0.75, 1, 1])],
)
def test_a_stage_is_a_function_of_the_step(start, ramp, expected):
    stage, seen = Staged(start=start, ramp=ramp), []
    for _ in range(6):
        seen.append(stage.strength)
        stage.advance()
    assert seen == expected


def test_a_stage_is_exactly_the_old_path_then_exactly_the_new_one():
    stage, new, value = Staged(start=1, ramp=2), nn.Linear(4, 4), x(3, 4)
    for step in range(5):
        found = stage(value, same, new)
        if step <= 1:
            assert found is value
        elif step == 2:
            torch.testing.assert_close(found, (value + new(value)) / 2)
        else:
            assert torch.equal(found, new(value))
        stage.advance()


def test_before_its_start_a_module_has_no_gradient_and_no_decay():
    model = nn.ModuleDict({"stage": Staged(start=2), "new": nn.Linear(4, 4), "head": nn.Linear(4, 1)})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    before = model["new"].weight.detach().clone()
    for step in range(4):
        optimizer.zero_grad()
        model["head"](model["stage"](x(8, 4, seed=step), same, model["new"])).sum().backward()
        assert (model["new"].weight.grad is None) == (step < 2)
        optimizer.step()
        model["stage"].advance()
        assert torch.equal(model["new"].weight, before) == (step < 2)


def test_the_step_is_in_the_state_dict_and_in_every_copy():
    stage = Staged(start=3)
    for _ in range(3):
        stage.advance()
    restored = Staged(start=3)
    restored.load_state_dict(stage.state_dict())
    assert restored.strength == copy.deepcopy(stage).strength == 1.0


def test_under_checkpointing_a_strength_that_is_passed_in_gives_exact_gradients_and_one_that_is_read_does_not():
    def gradient(how: str) -> torch.Tensor:
        torch.manual_seed(0)
        stage, new, value = Staged(start=0, ramp=4), nn.Linear(4, 4), x(3, 4).requires_grad_()
        stage.advance()
        strength = stage.strength

        def block(value, strength=None):
            return stage(value, same, new, strength).square()

        if how == "plain":
            loss = block(value).sum()
        elif how == "passed":
            loss = checkpoint(block, value, strength, use_reentrant=False).sum()
        else:
            loss = checkpoint(block, value, use_reentrant=False).sum()
        stage.advance()  # a scheduler that moves on between forward and backward
        loss.backward()
        return value.grad

    assert torch.equal(gradient("plain"), gradient("passed"))
    assert not torch.allclose(gradient("plain"), gradient("read"), rtol=0.05)


def test_film_starts_as_the_identity_and_listens_after_one_step():
    film, value, condition = FiLM(6, 3), x(2, 5, 4, 6), x(2, 3, seed=1)
    assert torch.equal(film(value, condition), value)
    optimizer = torch.optim.SGD(film.parameters(), lr=0.1)
    film(value, condition).square().sum().backward()
    optimizer.step()
    changed = film(value, condition)
    assert not torch.equal(changed, value)
    gain, shift = film.generator(condition).chunk(2, -1)
    torch.testing.assert_close(changed[1, 3, 2], value[1, 3, 2] * (1 + gain[1]) + shift[1])


def twin(logits: np.ndarray, target: int) -> float:
    s = [value + 1 if value >= 0 else 1 / (1 - value) for value in logits.tolist()]
    return -math.log(s[target] / sum(s))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6), st.data())
def test_stablemax_is_its_formula(values, data):
    target = data.draw(st.integers(0, len(values) - 1))
    logits = torch.tensor([values], dtype=torch.float64, requires_grad=True)
    loss = stablemax_cross_entropy(logits, torch.tensor([target]))
    assert loss.item() == pytest.approx(twin(np.array(values), target), rel=1e-9, abs=1e-12)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_stablemax_at_its_three_points_and_its_gradient_by_differences():
    logits = torch.tensor([[0.0, 1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    assert stablemax_cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(-math.log(1 / 3.5))
    torch.autograd.gradcheck(lambda z: stablemax_cross_entropy(z, torch.tensor([2])), (logits + 0.3,))


def test_stablemax_ignores_and_reduces_as_cross_entropy_does():
    logits, target = x(2, 3, 5), torch.tensor([[0, -100, 2], [-100, -100, 4]])
    each = stablemax_cross_entropy(logits, target, reduction="none")
    assert each.shape == target.shape and each.dtype == logits.dtype and bool((each[target == -100] == 0).all())
    mean = stablemax_cross_entropy(logits, target)
    torch.testing.assert_close(mean, each.sum() / 3)
    assert stablemax_cross_entropy(logits, torch.full_like(target, -100)).isnan()


def test_a_prior_bias_makes_the_first_loss_the_priors_entropy():
    prior = torch.tensor([0.7, 0.2, 0.1])
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    torch.testing.assert_close(prior_bias(layer, 5 * prior)(x(2, 4)).softmax(-1), prior.expand(2, 3))
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    torch.testing.assert_close(prior_bias(layer, prior, sigmoid=True)(x(2, 4)).sigmoid(), prior.expand(2, 3))


@pytest.mark.parametrize(
    ("layer", "prior", "sigmoid", "match"),
    [
        (nn.Linear(4, 3, bias=False), [0.5, 0.2, 0.3], False, "no bias"),
        (nn.Linear(4, 3), [0.5, 0.5], False, "no bias of shape"),
        (nn.Linear(4, 2), [1.0, 0.0], False, "above 0"),
        (nn.Linear(4, 2), [1.0, 0.5], True, "below 1"),
    ],
)
def test_a_prior_that_is_none_is_refused(layer, prior, sigmoid, match):
    with pytest.raises(ValueError, match=match):
        prior_bias(layer, torch.tensor(prior), sigmoid=sigmoid)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-3, 1e3), st.floats(1e-2, 1e2), st.integers(0, 99))
def test_a_clamped_delta_keeps_its_direction_and_never_exceeds_the_bound(scale, bound, seed):
    delta = x(3, 4, 5, seed=seed) * scale
    clamped = ClampedDelta(bound)(delta)
    norms, allowed = delta.norm(dim=(-2, -1)), torch.tensor(bound)
    torch.testing.assert_close(clamped.norm(dim=(-2, -1)), torch.minimum(norms, allowed), rtol=1e-4, atol=0)
    within = norms <= bound
    assert torch.equal(clamped[within], delta[within])
    torch.testing.assert_close(clamped / clamped.norm(dim=(-2, -1), keepdim=True), delta / norms[:, None, None])


def test_a_clamped_delta_relative_to_a_weight_and_at_zero():
    weight, delta = x(4, 5), x(4, 5, seed=1) * 100
    torch.testing.assert_close(ClampedDelta(0.5)(delta, weight).norm(), weight.norm() / 2)
    leaf = torch.zeros(4, 5, requires_grad=True)
    ClampedDelta()(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.ones(4, 5))
    with pytest.raises(ValueError, match="above 0"):
        ClampedDelta(0.0)


def test_an_average_is_the_formula_and_shares_buffers_and_mode():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), Staged(start=1))
    ema = EMA(model, 0.9)
    expected = None
    for step in range(4):
        with torch.no_grad():
            model[0].weight.copy_(x(3, 3, seed=step))
        model[1](model[0](x(5, 3)))
        model[2].advance()
        model.train(step % 2 == 0)
        ema.update()
        now = model[0].weight.detach().double()
        expected = now if expected is None else 0.9 * expected + 0.1 * now
        torch.testing.assert_close(ema.module[0].weight.double(), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(ema.module[1].running_mean, model[1].running_mean)
        assert ema.module[2].strength == model[2].strength
        assert ema.module[1].training == model[1].training
    assert not any(key.startswith("_read") for key in ema.state_dict())


def test_averaging_changes_no_training():
    def losses(averaged: bool) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 1))
        optimizer, found = torch.optim.Adam(model.parameters(), lr=0.1), []
        ema = EMA(model, 0.5) if averaged else None
        for step in range(5):
            optimizer.zero_grad()
            loss = model(x(4, 3, seed=step)).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
            if ema is not None:
                ema.update()
        return found

    assert losses(True) == losses(False)


def test_a_warm_up_forgets_the_start_and_a_wrong_decay_is_refused():
    model = nn.Linear(1, 1, bias=False)
    averages = {}
    for warm_up in (False, True):
        ema = EMA(model, 0.999, warm_up=warm_up)
        for step in range(20):
            nn.init.constant_(model.weight, float(step > 0))
            ema.update()
        averages[warm_up] = ema.module.weight.item()
    assert averages[False] < 0.05 and averages[True] > 0.99
    with pytest.raises(ValueError, match="between 0 and 1"):
        EMA(model, 1.5)
