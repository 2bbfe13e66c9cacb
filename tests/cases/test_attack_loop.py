"""The attack's loop against a plain transcription of the original's, and what its gradients reach."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pitprop._errors import PitpropError
from pitprop.cases.timestep_attack.attack import Attack, attack, prepare
from pitprop.cases.timestep_attack.classifiers import cnn
from pitprop.cases.timestep_attack.denoiser import PixelBackbone, UNet
from pitprop.cases.timestep_attack.settings import LAPTOP
from pitprop.cases.timestep_attack.weights import Stream, TimestepWeights

SHORT = replace(LAPTOP, iterations=3, null_iterations=1)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    backbone = PixelBackbone(UNet(1, 8))
    surrogate = cnn(1, 4).requires_grad_(False)
    return backbone, surrogate, torch.rand(2, 1, 8, 8) * 2 - 1, torch.tensor([3, 7])


def original(backbone, surrogate, image, label, prepared, network, settings):
    """The original's loop as its source has it: both branches in one batch, the original's attention computed anew."""
    start = prepared.latents
    latent = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([latent], lr=settings.latent_lr)
    of_weights = torch.optim.Adam(network.parameters(), lr=1e-4)
    history = []
    for _ in range(settings.iterations):
        weights = network(torch.zeros(1, 5))[0]
        loss, raw = 0.0, []
        x = torch.cat([start, latent])
        context = torch.cat([prepared.context] * 2)
        for index, t in enumerate(backbone.timesteps(20).tolist()[15:]):
            layers = []

            def control(attention, is_cross, place, layers=layers):
                conditional = attention[2:]
                if not is_cross:
                    layers.append(F.mse_loss(conditional[1], conditional[0]))
                return attention

            null = torch.cat([prepared.nulls[index]] * 2)
            both = backbone.predict_noise(torch.cat([x, x]), t, torch.cat([null, context]), control)
            without, condition = both.chunk(2)
            noise = without + settings.guidance * (condition - without)
            alpha = backbone.alphas_cumprod[t]
            before = backbone.alphas_cumprod[t - 50] if t >= 50 else torch.tensor(1.0)
            x = before.sqrt() * (x - (1 - alpha).sqrt() * noise) / alpha.sqrt() + (1 - before).sqrt() * noise
            raw.append(sum(layers))
            loss = loss + sum(5 * weights[index] * layer for layer in layers)
        attacked = -F.cross_entropy(surrogate(x[1:].clamp(-1, 1)), label)
        total = settings.alpha * attacked + settings.gamma * loss
        optimizer.zero_grad()
        of_weights.zero_grad()
        total.backward()
        optimizer.step()
        of_weights.step()
        history.append((weights.detach(), torch.stack(raw).detach(), attacked.detach()))
    return latent.detach(), history


def test_the_streams_give_what_the_originals_loop_gives(parts):
    backbone, surrogate, images, labels = parts
    prepared = prepare(backbone, images, labels, SHORT)
    together = TimestepWeights([Stream(mode="learnable", seed=0), Stream(mode="learnable", seed=1)])
    found = attack(backbone, surrogate, images, labels, together, SHORT, prepared)
    for row in range(2):
        own = prepared.take(torch.tensor([row]))
        network = TimestepWeights([Stream(mode="learnable", seed=row)])
        _, history = original(backbone, surrogate, images[row], labels[row : row + 1], own, network, SHORT)
        for iteration, (weights, raw, attacked) in enumerate(history):
            torch.testing.assert_close(found.weights[iteration, row], weights, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(found.self_losses[iteration, row], raw, atol=1e-9, rtol=2e-2)
            torch.testing.assert_close(found.attack_loss[iteration, row], attacked, atol=1e-4, rtol=1e-3)
    assert found.images.shape == images.shape and float(found.images.abs().max()) <= 1


def test_the_first_iteration_tells_the_weights_nothing(parts):
    backbone, surrogate, images, labels = parts
    weights = TimestepWeights([Stream(mode="learnable")] * 2)
    found = attack(backbone, surrogate, images, labels, weights, SHORT)
    assert float(found.self_losses[0].abs().max()) < 1e-12 < float(found.self_losses[1].min())
    torch.testing.assert_close(found.weights[1], found.weights[0])


@pytest.mark.parametrize(
    ("mode", "cross", "dead"),
    [
        ("learnable", "dead", {"cross_attention"}),
        ("learnable", "wired", set()),
        ("learnable_detached", "dead", {"cross_attention", "self_attention"}),
    ],
)
def test_the_census_of_gradients(parts, mode, cross, dead):
    backbone, surrogate, images, labels = parts
    settings = replace(SHORT, cross_weights=cross)
    weights = TimestepWeights([Stream(mode=mode)] * 2)
    running = Attack(backbone, surrogate, labels, prepare(backbone, images, labels, settings), weights, settings)
    for _ in range(2):
        running.iterate()
    none = {name.split(".")[1] for name, parameter in weights.named_parameters() if parameter.grad is None}
    assert none == dead


@pytest.mark.slow
def test_the_cross_variance_moves_the_latent_only_where_it_is_asked_to(parts):
    backbone, surrogate, images, labels = parts
    ended = []
    for cross_gradient, beta in ((False, 0.0), (False, 1e4), (True, 1e4)):
        settings = replace(SHORT, cross_gradient=cross_gradient, beta=beta)
        weights = TimestepWeights([Stream(mode="uniform")] * 2)
        ended.append(attack(backbone, surrogate, images, labels, weights, settings).images)
    assert torch.equal(ended[0], ended[1]) and not torch.equal(ended[0], ended[2])


def test_the_attack_lowers_its_loss(parts):
    backbone, surrogate, images, labels = parts
    weights = TimestepWeights([Stream(mode="fixed")] * 2)
    found = attack(backbone, surrogate, images, labels, weights, replace(SHORT, iterations=6))
    assert (found.attack_loss[-1] < found.attack_loss[0]).all()


def test_another_number_of_streams_than_images_is_explained(parts):
    backbone, surrogate, images, labels = parts
    weights = TimestepWeights([Stream(mode="fixed")])
    with pytest.raises(PitpropError, match=r"have 1 streams, for 2 images\.\n.*\nDo: repeat the image"):
        attack(backbone, surrogate, images, labels, weights, SHORT)
