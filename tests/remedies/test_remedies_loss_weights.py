"""Weights for sums of losses: each formula against an independent float64 twin, and what its head comment promises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pitprop.remedies.torch.importance_weights import importance_weights
from pitprop.remedies.torch.kl_weights import kl_weights
from pitprop.remedies.torch.min_snr_weights import min_snr_weights
from pitprop.remedies.torch.separate_weights import SeparateWeights, diversity
from pitprop.remedies.torch.tilted_weights import tilted_weights
from pitprop.remedies.torch.uncertainty_weights import UncertaintyWeights

LOSSES = st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=7)
PRIOR = [0.05, 0.08, 0.13, 0.24, 0.50]
SHARES = [3.9, 6.0, 12.5, 24.7, 52.9]
ALPHAS = torch.tensor([0.0, 0.05, 0.3, 0.9, 1.0])
STATELESS = {
    "importance": importance_weights,
    "kl": kl_weights,
    "tilted": tilted_weights,
    "min_snr": lambda losses: min_snr_weights(losses, alphas_cumprod=ALPHAS),
    "separate": lambda losses: SeparateWeights(torch.tensor(PRIOR))(losses),
}


def twin_importance(losses):
    whole = math.fsum(losses)
    return [value / whole for value in losses]


def twin_gibbs(losses, prior, kappa, sign):
    """Written as a product of powers of kappa, not as a softmax."""
    low, high = min(losses), max(losses)
    parts = [p * kappa ** (sign * (v - low) / (high - low)) for v, p in zip(losses, prior, strict=True)]
    return [part / math.fsum(parts) for part in parts]


def twin_min_snr(share, gamma, prediction):
    snr = share / (1 - share)
    return {"epsilon": min(snr, gamma) / snr, "v": min(snr, gamma) / (snr + 1), "x0": min(snr, gamma)}[prediction]


@settings(deadline=None, max_examples=50)
@given(LOSSES)
def test_importance_is_the_share_of_each_loss(losses):
    np.testing.assert_allclose(importance_weights(torch.tensor(losses)), twin_importance(losses), rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(LOSSES.filter(lambda values: max(values) > 1.01 * min(values)), st.floats(1, 100), st.integers(0, 99))
def test_kl_and_tilted_are_the_prior_times_powers_of_kappa(losses, kappa, seed):
    prior = np.random.default_rng(seed).uniform(0.1, 1, len(losses))
    for function, sign in ((kl_weights, -1), (tilted_weights, 1)):
        found = function(torch.tensor(losses, dtype=torch.float64), prior=torch.from_numpy(prior), kappa=kappa)
        np.testing.assert_allclose(found, twin_gibbs(losses, prior, kappa, sign), rtol=1e-9)


@pytest.mark.parametrize(("function", "sign"), [(kl_weights, 1), (tilted_weights, -1)])
def test_kl_and_tilted_are_the_optimum_of_what_they_say(function, sign):
    losses, tau = np.array([1.0, 2.0, 0.5, 3.0, 1.5]), 0.7

    def objective(logits):
        w = np.exp(logits - logits.max())
        w /= w.sum()
        return sign * w @ losses + tau * (w * np.log(w / PRIOR)).sum()

    logits = minimize(objective, np.zeros(5), tol=1e-12).x
    expected = np.exp(logits) / np.exp(logits).sum()
    found = function(torch.from_numpy(losses), prior=torch.tensor(PRIOR), tau=tau)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-4, 0.9999), st.floats(0.1, 20), st.sampled_from(["epsilon", "v", "x0"]))
def test_min_snr_is_the_papers_factor(share, gamma, prediction):
    found = min_snr_weights(
        torch.ones(1, dtype=torch.float64),
        alphas_cumprod=torch.tensor([share], dtype=torch.float64),
        gamma=gamma,
        prediction=prediction,
        normalise=False,
    )
    assert found.item() == pytest.approx(twin_min_snr(share, gamma, prediction), rel=1e-9)


@pytest.mark.parametrize(("prediction", "expected"), [("epsilon", [1, 0]), ("v", [0, 0]), ("x0", [0, 5])])
def test_min_snr_has_its_limits_at_pure_noise_and_at_no_noise(prediction, expected):
    ends = torch.tensor([0.0, 1.0])
    found = min_snr_weights(torch.ones(2), alphas_cumprod=ends, prediction=prediction, normalise=False)
    assert found.tolist() == expected


def test_min_snr_names_the_predictions_it_knows():
    with pytest.raises(ValueError, match=r"'eps'; it is one of 'epsilon', 'v', 'x0'"):
        min_snr_weights(torch.ones(2), alphas_cumprod=torch.ones(2) / 2, prediction="eps")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STATELESS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_weights_lie_on_the_simplex_and_no_gradient_passes(name, batch):
    losses = torch.rand(*batch, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = STATELESS[name](losses)
    assert weights.shape == losses.shape and not weights.requires_grad
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(batch))


@pytest.mark.parametrize("name", ["importance", "kl", "tilted"])
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_the_losses_has_no_effect(name, factor):
    losses = torch.tensor(SHARES)
    torch.testing.assert_close(STATELESS[name](losses * factor), STATELESS[name](losses))


def test_equal_losses_leave_the_prior_and_zero_losses_are_equal():
    prior = torch.tensor(PRIOR)
    for function in (kl_weights, tilted_weights):
        torch.testing.assert_close(function(torch.zeros(5), prior=prior), prior)
        torch.testing.assert_close(function(torch.tensor(SHARES), prior=prior, kappa=1.0), prior)
    torch.testing.assert_close(importance_weights(torch.zeros(2, 5)), torch.full((2, 5), 0.2))


def test_importance_of_a_negative_loss_is_undefined_for_its_row_alone():
    weights = importance_weights(torch.tensor([[1.0, -0.5], [1.0, 3.0]]))
    assert weights[0].isnan().all() and weights[1].tolist() == [0.25, 0.75]


def test_importance_follows_the_squared_norm():
    losses = torch.tensor(SHARES, requires_grad=True)
    (importance_weights(losses) * losses).sum().backward()
    (expected,) = torch.autograd.grad(losses.square().sum() / 2, losses)
    torch.testing.assert_close(losses.grad, expected / losses.detach().sum())


def test_tilted_follows_the_smooth_maximum():
    losses, prior, tau = torch.tensor(SHARES, requires_grad=True), torch.tensor(PRIOR), 9.0
    (tilted_weights(losses, prior=prior, tau=tau) * losses).sum().backward()
    (expected,) = torch.autograd.grad(tau * (prior.log() + losses / tau).logsumexp(-1), losses)
    torch.testing.assert_close(losses.grad, expected)


def test_uncertainty_has_the_gradients_of_the_papers_one_loss_and_its_optimum():
    torch.manual_seed(0)
    uncertainty, losses = UncertaintyWeights(2, 3), torch.tensor([[0.5, 1.0, 2.0], [4.0, 0.1, 1.0]], requires_grad=True)
    torch.nn.init.normal_(uncertainty.log_variance)
    ((uncertainty(losses) * losses).sum(-1) + uncertainty.objective(losses)).sum().backward()
    s = uncertainty.log_variance.detach().clone().requires_grad_()
    twin = losses.detach().clone().requires_grad_()
    (torch.exp(-s) * twin + s).sum().backward()
    torch.testing.assert_close(uncertainty.log_variance.grad, s.grad)
    torch.testing.assert_close(losses.grad, twin.grad)
    optimizer = torch.optim.Adam(uncertainty.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        uncertainty.objective(losses).sum().backward()
        optimizer.step()
    torch.testing.assert_close(uncertainty(losses), 1 / losses.detach(), rtol=1e-2, atol=0)


def follow(objective, losses, steps=600):
    separate = SeparateWeights(torch.tensor(PRIOR), objective)
    torch.testing.assert_close(separate(losses), torch.tensor(PRIOR))
    optimizer = torch.optim.Adam(separate.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        ((separate(losses) * losses).sum() + separate.objective(losses)).backward()
        optimizer.step()
    return separate(losses)


def test_separate_weights_obey_their_criterion_and_not_the_loss():
    losses = torch.tensor(SHARES)
    torch.testing.assert_close(follow(diversity, losses), torch.full((5,), 0.2), rtol=0, atol=1e-3)
    fitted = follow(lambda w, values: (w - importance_weights(values)).square().sum(), losses)
    torch.testing.assert_close(fitted, importance_weights(losses), rtol=0, atol=1e-3)
    vertex = follow(lambda w, values: (w * values).sum(), losses)  # no interior optimum: the page warns of it
    assert vertex[0] > 0.9
