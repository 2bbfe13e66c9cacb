"""Timestep weights: the original's network, number by number, every mode's fixed point, and what is predicted of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pitprop import PitpropError
from pitprop.cases.timestep_attack import classifiers, data
from pitprop.cases.timestep_attack.attack import attack
from pitprop.cases.timestep_attack.denoiser import PixelBackbone, UNet
from pitprop.cases.timestep_attack.detection import lead, watch_weights
from pitprop.cases.timestep_attack.prediction import predict_vertex
from pitprop.cases.timestep_attack.settings import LAPTOP
from pitprop.cases.timestep_attack.weights import INITIAL, MODES, PILOT, Stream, TimestepWeights
from pitprop.remedies.torch.importance_weights import importance_weights
from pitprop.remedies.torch.kl_weights import kl_weights
from pitprop.remedies.torch.min_snr_weights import min_snr_weights
from pitprop.remedies.torch.tilted_weights import tilted_weights

SHARES = torch.tensor([0.039, 0.060, 0.125, 0.247, 0.529])
"""Of the losses that the original logged over 1000 images, timestep by timestep."""
ALPHAS = torch.tensor([0.6, 0.75, 0.87, 0.95, 0.99])
PER_IMAGE = 30


def drive(weights, losses, num_images):
    """Weights of each iteration `[iteration, stream, timestep]`; `losses` is `[image, iteration, stream, timestep]`, or
    broadcasts to it.
    """
    losses = losses.expand(num_images, PER_IMAGE, weights.num_streams, 5)
    seen = []
    for image in losses:
        weights.start_image()
        for now in image:
            w = weights(now)
            seen.append(w.detach().clone())
            total = 100 * (5 * (w * now).sum() + weights.penalty(now).sum())
            weights.zero_grad()
            if total.requires_grad:
                total.backward()
            weights.step(now)
    return torch.stack(seen)


def noisy(num_images, num_streams, noise=0.5, seed=0):
    """Losses of many images around the logged shares, grown within an image as the latent departs from its start."""
    generator = torch.Generator().manual_seed(seed)
    images = SHARES * torch.exp(noise * torch.randn(num_images, 1, num_streams, 5, generator=generator))
    growth = (torch.arange(PER_IMAGE) / 10).clamp(max=1)[None, :, None, None]
    return 1e-5 * images * growth


@pytest.fixture(scope="module")
def collapse():
    """100 images of the mode `learnable` on ten seeds: weights and losses, `[iteration, stream, timestep]`."""
    losses = noisy(100, 10)
    seen = drive(TimestepWeights([Stream(mode="learnable", seed=seed) for seed in range(10)]), losses, 100)
    return seen.double().numpy(), losses.flatten(0, 1).double().numpy()


def sequential(weights, part):
    """The original's `nn.Sequential` with the parameters of row 0."""
    mlp = getattr(weights.network, part)
    twin = nn.Sequential(nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 5))
    values = (mlp.first_weight[0][:, None], mlp.first_bias[0], mlp.last_weight[0], mlp.last_bias[0])
    with torch.no_grad():
        for parameter, value in zip(twin.parameters(), values, strict=True):
            parameter.copy_(value)
    return twin


def test_the_network_starts_as_the_original_does():
    weights = TimestepWeights([Stream(mode="learnable", seed=seed) for seed in range(50)])
    mlp = weights.network.self_attention
    assert sum(p.numel() for p in weights.network.parameters()) == 50 * 2 * (64 + 64 + 5 * 64 + 5)
    torch.testing.assert_close(mlp.last_bias.sum(-1), torch.zeros(50), atol=1e-6, rtol=0)
    torch.testing.assert_close(mlp.last_bias.softmax(-1), torch.tensor(INITIAL).expand(50, 5))
    assert mlp.last_weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert 0.29 < mlp.first_weight.abs().max() < (6 / 65) ** 0.5 and not mlp.first_bias.any()
    start, cross = weights(torch.zeros(50, 5)), weights.cross()
    assert not torch.equal(start, cross)  # two MLPs, not one
    for found in (start, cross):  # the seed's "0.36 % shift" of weights that nothing trains: distance at initialisation
        assert 0.003 < (found - torch.tensor(INITIAL)).abs().sum(-1).median() < 0.008


def test_learnable_is_the_originals_loop():
    weights, losses = TimestepWeights([Stream(mode="learnable", seed=3)]), noisy(4, 1)
    twin = sequential(weights, "self_attention")
    cross = sequential(weights, "cross_attention")
    seen = drive(weights, losses, 4)
    expected = []
    for image in losses[:, :, 0]:
        optimizer = torch.optim.Adam([*twin.parameters(), *cross.parameters()], lr=1e-4)
        for now in image:
            w = twin(torch.ones(1, 1)).softmax(-1)[0]
            expected.append(w.detach())
            optimizer.zero_grad()
            (100 * sum(5 * w[t] * now[t] for t in range(5))).backward()
            optimizer.step()
    torch.testing.assert_close(seen[:, 0], torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert (seen[-1] - seen[0]).abs().sum() > 1e-2


def test_cross_weights_have_no_gradient_and_detached_weights_none_at_all():
    learnable, detached = (TimestepWeights([Stream(mode=mode)]) for mode in ("learnable", "learnable_detached"))
    for weights in (learnable, detached):
        before = [p.detach().clone() for p in weights.parameters()]
        w = weights(SHARES[None])
        assert w.requires_grad == (weights is learnable)
        if w.requires_grad:
            (w * SHARES).sum().backward()
        untrained = {name for name, p in weights.named_parameters() if p.grad is None}
        assert {name for name in untrained if "self" in name} == (
            set() if weights is learnable else {n for n, _ in weights.named_parameters() if "self" in n}
        )
        assert {n for n, _ in weights.named_parameters() if "cross" in n} <= untrained
        weights.step(SHARES[None])
        moved = [not torch.equal(a, b) for a, b in zip(before, weights.parameters(), strict=True)]
        assert any(moved) == (weights is learnable)


def test_every_mode_ends_where_its_criterion_says():
    streams = [Stream(mode=mode, seed=7) for mode in MODES] + [Stream(mode="fixed", schedule=PILOT)]
    weights = TimestepWeights(streams, alphas_cumprod=ALPHAS, lr=1e-3)
    losses = torch.tensor([3.0, 2.0, 4.0, 1.0, 2.5]) * 1e-5
    growth = (torch.arange(PER_IMAGE) / 10).clamp(max=1)[None, :, None, None]
    seen = drive(weights, losses * growth, 25)
    start, end = (dict(zip([*MODES, "pilot"], row, strict=True)) for row in (seen[0], seen[-1]))
    prior = torch.tensor(INITIAL)
    reciprocal = 1 / losses
    expected = {
        "separate": torch.full((5,), 0.2),
        "importance": importance_weights(losses),
        "kl": kl_weights(losses, prior=prior),
        "dro": tilted_weights(losses, prior=prior),
        "uncertainty": reciprocal / reciprocal.sum(),
    }
    for mode, target in expected.items():
        torch.testing.assert_close(end[mode], target, atol=5e-3, rtol=0, msg=mode)
    assert end["learnable"].argmax() == losses.argmin() and end["learnable"].max() > 0.95
    for mode in ("uniform", "fixed", "min_snr", "learnable_detached", "pilot"):
        assert torch.equal(start[mode], end[mode]), mode
    torch.testing.assert_close(end["uniform"], torch.full((5,), 0.2))
    torch.testing.assert_close(end["fixed"], prior)
    torch.testing.assert_close(end["pilot"], torch.tensor(PILOT))
    torch.testing.assert_close(end["min_snr"], min_snr_weights(prior, alphas_cumprod=ALPHAS))


def test_a_streams_weights_do_not_depend_on_its_neighbours():
    losses = noisy(2, len(MODES))
    together = drive(TimestepWeights([Stream(mode=mode) for mode in MODES], alphas_cumprod=ALPHAS), losses, 2)
    for row, mode in enumerate(MODES):
        alone = drive(TimestepWeights([Stream(mode=mode)], alphas_cumprod=ALPHAS), losses[:, :, row : row + 1], 2)
        torch.testing.assert_close(alone[:, 0], together[:, row], rtol=1e-5, atol=1e-7)


def test_errors_say_what_was_seen():
    with pytest.raises(PitpropError, match="no weight mode `learned`: did you mean `learnable`"):
        TimestepWeights([Stream(mode="learned")])  # type: ignore[arg-type]
    with pytest.raises(PitpropError, match=r"\(0.5, 0.0\) is no schedule of 2 timesteps"):
        TimestepWeights([Stream(mode="fixed", schedule=(0.5, 0.0))])
    with pytest.raises(PitpropError, match="`min_snr` got no `alphas_cumprod`"):
        TimestepWeights([Stream(mode="min_snr")])
    with pytest.raises(PitpropError, match="no streams"):
        TimestepWeights([])
    with pytest.raises(PitpropError, match=r"Losses of shape \(4,\) and weights of shape \(5,\)"):
        predict_vertex(np.ones(4), np.array(INITIAL))


def first(condition):
    return np.where(condition.any(0), condition.argmax(0), -1)


def test_the_vertex_and_its_time_are_predicted_from_the_losses_alone(collapse):
    weights, losses = collapse
    growth = losses[:, 0].reshape(100, PER_IMAGE, 5).mean(0)
    predicted = predict_vertex(growth, np.array(INITIAL))
    assert predicted.index == predicted.smallest == 0
    collapsed = first(np.abs(weights - weights[0]).sum(-1) / 2 > 0.5)
    assert predicted.collapse == pytest.approx(collapsed.mean(), rel=0.2)
    assert np.abs(collapsed - predicted.collapse).max() < 0.35 * predicted.collapse


@pytest.mark.parametrize("vertex", range(5))
def test_the_prediction_meets_the_networks_own_path_without_noise(vertex):
    losses = SHARES.roll(vertex) * 1e-5
    predicted = predict_vertex(losses.numpy(), np.array(INITIAL), 1e-3)
    weights = TimestepWeights([Stream(mode="learnable", seed=seed) for seed in range(20)], lr=1e-3)
    seen = drive(weights, losses, 12).numpy()
    assert predicted.index == vertex and (seen[-1].argmax(-1) == vertex).all()
    assert first(seen[:, :, vertex] > 0.9).mean() == pytest.approx(predicted.arrival, rel=0.06)


def test_neighbours_that_hardly_differ_are_decided_by_most_iterations_and_not_by_the_mean():
    """The small one of an image's first two thirds gets the weight, though its mean loss is larger: Adam, made anew for
    each image, counts iterations alike. Without growth within the image, and the same means, the other gets it.
    """
    early, late = torch.tensor([0.185, 0.178, 0.190, 0.20, 0.247]), torch.tensor([0.185, 0.191, 0.20, 0.206, 0.218])
    growth = (torch.arange(PER_IMAGE) / PER_IMAGE)[:, None] ** 2
    image = 1e-3 * growth * torch.where(torch.arange(PER_IMAGE)[:, None] < 20, early, late)
    for rows, end in ((image, 1), (image.mean(0, keepdim=True).expand_as(image), 0)):
        predicted = predict_vertex(rows.numpy(), np.array(INITIAL), 1e-3)
        weights = TimestepWeights([Stream(mode="learnable", seed=seed) for seed in range(10)], lr=1e-3)
        seen = drive(weights, rows[None, :, None].expand(40, -1, 10, -1), 40).numpy()
        assert (predicted.index, predicted.smallest) == (end, 0)
        assert (seen[-1].argmax(-1) == end).all() and (seen[-1].max(-1) > 0.9).all()
        assert first(seen[:, :, end] > 0.9).mean() == pytest.approx(predicted.arrival, rel=0.2)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_under_adam_the_unit_of_the_losses_has_no_effect(factor):
    shares = SHARES.numpy() * 1e-2
    scaled, plain = (predict_vertex(shares * f, np.array(INITIAL)) for f in (factor, 1.0))
    assert scaled.index == plain.index and scaled.collapse == pytest.approx(plain.collapse, rel=0.01)


def test_the_pilot_schedule_lies_on_the_way_to_the_vertex(collapse):
    """The seed's "learned" schedule after 10 images, against the weights of ten seeds at iteration 300."""
    weights, _ = collapse
    distance = np.abs(weights - np.array(PILOT)).sum(-1) / 2
    assert np.median(distance[300]) < 0.03 < np.median(distance[0])
    assert (weights[-1].argmax(-1) == 0).all()


def test_the_rule_speaks_long_before_the_weights_have_moved(collapse):
    weights, losses = collapse
    streams = [watch_weights(weights[:, seed], losses[:, seed]) for seed in range(10)]
    found = lead(streams)
    assert (found.num_alarms, found.num_moved, found.num_ahead, found.num_notes) == (10, 10, 10, 0)
    assert {d.vertex for d in streams} == {0}
    # What it names is the smallest loss so far. One image's losses don't tell two neighbouring timesteps apart.
    so_far = [losses[: int(d.alarm) + 1, seed].sum(0).argmin() for seed, d in enumerate(streams)]
    assert [d.vertex_said for d in streams] == so_far
    assert found.num_vertex_right == so_far.count(0) < 10
    assert found.alarm.high < 0.2 * found.moved.low and found.lead.low > 0


def test_weights_that_nothing_trains_are_reported_as_such():
    weights = TimestepWeights([Stream(mode="learnable_detached")])
    losses = noisy(5, 1)
    seen = drive(weights, losses, 5)[:, 0].double().numpy()
    found = watch_weights(seen, losses[:, :, 0].flatten(0, 1).double().numpy())
    assert found.severity == "note" and "nothing trains them" in found.message and np.isnan(found.moved)
    assert lead([found])[:3] == (1, 0, 1)


def test_an_interior_optimum_is_warned_of_too_while_the_weights_move_towards_it():
    """The rule's page says so: at first the motion is the same. Ten seeds each, three images."""
    modes = ("kl", "uncertainty", "separate", "dro")
    streams = [Stream(mode=mode, seed=seed) for mode in modes for seed in range(10)]
    losses = noisy(3, len(streams))
    seen = drive(TimestepWeights(streams), losses, 3).double().numpy()
    flat = losses.flatten(0, 1).double().numpy()
    alarms = [watch_weights(seen[:, row], flat[:, row]).severity == "warning" for row in range(len(streams))]
    assert [sum(alarms[10 * k : 10 * k + 10]) for k in range(4)] == [10, 10, 10, 0]


@pytest.mark.slow
def test_a_real_attack_is_warned_of_within_its_first_image():
    """Attention and gradients of a U-Net as it is at initialisation; the weights' loss is linear all the same."""
    torch.manual_seed(0)
    backbone = PixelBackbone(UNet().requires_grad_(False).eval())
    image = data.load("digits")[1].images[:1].expand(3, -1, -1, -1)
    streams = [Stream(mode=mode) for mode in ("learnable", "learnable_detached", "dro")]
    weights = TimestepWeights(streams)
    settings = replace(LAPTOP, null_iterations=1)
    result = attack(backbone, classifiers.cnn(1, 4), image, torch.tensor([3, 3, 3]), weights, settings)
    learnable, detached, dro = (
        watch_weights(result.weights[:, row].double().numpy(), result.self_losses[:, row].double().numpy())
        for row in range(3)
    )
    assert learnable.severity == "warning" and learnable.alarm < PER_IMAGE and np.isnan(learnable.moved)
    assert learnable.vertex_said == learnable.vertex
    assert (detached.severity, dro.severity) == (None, None)
    assert torch.equal(result.weights[0, 1], result.weights[-1, 1])
