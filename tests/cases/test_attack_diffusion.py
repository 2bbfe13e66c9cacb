"""DDIM and its inversion, guidance, null text and the controller, on a tiny denoiser that was never trained."""

import math

import pytest
import torch

from pitprop.cases.timestep_attack import null_text
from pitprop.cases.timestep_attack.control import AttentionControlEdit, AttentionStore, cross_variance
from pitprop.cases.timestep_attack.denoiser import NULL, PixelBackbone, UNet, alphas_cumprod
from pitprop.cases.timestep_attack.diffusion import ddim_step, guided_noise, invert
from pitprop.cases.timestep_attack.settings import LAPTOP, Settings


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return PixelBackbone(UNet(1, 8))


class KnowsTheNoise(PixelBackbone):
    """Predicts one and the same noise everywhere."""

    def __init__(self, noise):
        self.noise, self.alphas_cumprod = noise, alphas_cumprod()

    def null_context(self, num_streams):
        return torch.zeros(num_streams, 3, 8)

    def predict_noise(self, latents, timestep, context, control=None):
        return self.noise.expand_as(latents)


def test_the_denoiser_has_six_attention_layers_and_the_controller_sees_each_map(backbone):
    seen = []

    def control(attention, is_cross, place):
        seen.append((tuple(attention.shape), is_cross, place))
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
        return attention

    x = torch.randn(2, 1, 8, 8)
    plain = backbone.predict_noise(x, 201, backbone.context(torch.tensor([3, 4])))
    controlled = backbone.predict_noise(x, 201, backbone.context(torch.tensor([3, 4])), control)
    assert torch.equal(plain, controlled) and plain.shape == x.shape
    assert seen == [
        ((2, 2, 64, 64), False, "down"),
        ((2, 2, 64, 3), True, "down"),
        ((2, 2, 16, 16), False, "mid"),
        ((2, 2, 16, 3), True, "mid"),
        ((2, 2, 64, 64), False, "up"),
        ((2, 2, 64, 3), True, "up"),
    ]


def test_what_the_controller_returns_is_what_the_layer_goes_on_with(backbone):
    x, context = torch.randn(1, 1, 8, 8), backbone.context(torch.tensor([3]))
    uniform = backbone.predict_noise(x, 201, context, lambda a, is_cross, place: torch.full_like(a, 1 / a.shape[-1]))
    assert not torch.allclose(uniform, backbone.predict_noise(x, 201, context))


def test_the_schedule_is_stable_diffusions_with_an_offset_of_one(backbone):
    assert backbone.timesteps(20).tolist() == list(range(951, 0, -50))
    assert backbone.alphas_cumprod[0] == pytest.approx(1 - 1e-4)
    slow = math.prod(1 - (1e-4 + (0.02 - 1e-4) * i / 999) for i in range(1000))
    assert float(backbone.alphas_cumprod[-1]) == pytest.approx(slow, rel=1e-3)


def test_steps_undo_the_inversion_where_the_noise_is_known():
    torch.manual_seed(1)
    image, noise = torch.randn(2, 1, 8, 8), torch.randn(1, 1, 8, 8)
    knows = KnowsTheNoise(noise)
    found = invert(knows, image, 20)
    assert len(found) == 20 and found[-1] is image
    alpha = float(knows.alphas_cumprod[951])
    start = float(knows.alphas_cumprod[1])
    clean = (image - (1 - start) ** 0.5 * noise) / start**0.5
    torch.testing.assert_close(found[0], alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, atol=1e-4, rtol=1e-4)
    latents = found[14]
    for index, timestep in enumerate(knows.timesteps(20).tolist()[14:]):
        torch.testing.assert_close(latents, found[14 + index], atol=1e-4, rtol=1e-4)
        latents = ddim_step(knows, latents, noise, timestep, 20)
    torch.testing.assert_close(latents, clean, atol=1e-4, rtol=1e-4)


def test_guidance_is_the_formula_and_the_controller_sees_the_conditional_half(backbone):
    x, context, null = torch.randn(3, 1, 8, 8), backbone.context(torch.tensor([1, 2, 3])), backbone.null_context(3)
    rows = []

    def control(attention, is_cross, place):
        rows.append(len(attention))
        return attention

    both = guided_noise(backbone, x, 101, null, context, 2.5, control)
    without, condition = (backbone.predict_noise(x, 101, c) for c in (null, context))
    torch.testing.assert_close(both, without + 2.5 * (condition - without), atol=1e-5, rtol=1e-4)
    assert rows == [3] * 6
    torch.testing.assert_close(null, backbone.context(torch.full((3,), NULL)))


def test_null_text_brings_the_guided_steps_nearer_to_the_inversion_row_by_row(backbone):
    torch.manual_seed(2)
    images, context = torch.randn(2, 1, 8, 8).clamp(-1, 1), backbone.context(torch.tensor([1, 2]))
    settings = Settings(null_iterations=5, null_growth=1)
    inversion = invert(backbone, images, 20)
    nulls = null_text.optimise(backbone, inversion, context, settings)
    assert len(nulls) == 5 and not nulls[0].requires_grad

    def error(embedding):
        noise = guided_noise(backbone, inversion[14], 201, embedding, context, 2.5)
        return float((ddim_step(backbone, inversion[14], noise, 201, 20) - inversion[15]).square().mean())

    assert error(nulls[0]) < error(backbone.null_context(2))
    alone = null_text.optimise(backbone, [x[1:] for x in inversion], context[1:], settings)
    for together, single in zip(nulls, alone, strict=True):
        torch.testing.assert_close(together[1:], single, atol=1e-4, rtol=1e-3)
    assert LAPTOP.num_active == settings.num_active == 5


def test_the_structure_loss_is_the_mean_squared_difference_inside_of_the_window():
    torch.manual_seed(3)
    originals = [[torch.rand(1, 2, 4, 4), torch.rand(1, 2, 2, 2)] for _ in range(3)]
    seen = [[torch.rand(2, 2, 4, 4), torch.rand(2, 2, 2, 2)] for _ in range(3)]
    control = AttentionControlEdit(AttentionStore(4), originals, num_self_replace=2)
    for step in seen:
        control.next_step()
        for attention in step:
            assert control(attention, False, "down") is attention
            control(torch.rand(2, 2, 4, 3), True, "up")
    wanted = torch.zeros(2, 3, dtype=torch.float64)
    for t in range(2):
        for layer in range(2):
            for row in range(2):
                change = (seen[t][layer][row] - originals[t][layer][0]).double()
                wanted[row, t] += float((change * change).sum() / change.numel())
    torch.testing.assert_close(control.losses().double(), wanted, atol=1e-6, rtol=1e-5)


def test_the_store_keeps_cross_attention_of_the_right_size_outside_of_the_middle():
    store = AttentionStore(4)
    store.next_step()
    for queries, place in ((4, "down"), (2, "down"), (4, "mid"), (4, "up")):
        store(torch.rand(1, 2, queries, 3), True, place)
        store(torch.rand(1, 2, queries, queries), False, place)
    assert [m.shape[2] for m in store.cross_maps[0]] == [4, 4] and store.self_maps == [[]]


@pytest.mark.parametrize("weights", [None, [[0.1, 0.9], [0.7, 0.3]]])
def test_the_cross_variance_is_the_variance_of_the_average_map(weights):
    torch.manual_seed(4)
    maps = [[torch.rand(2, 2, 4, 3) for _ in range(3)] for _ in range(2)]
    tokens = torch.tensor([[False, True, False], [True, True, False]])
    given = None if weights is None else torch.tensor(weights)
    found = cross_variance(maps, tokens, given)
    for row in range(2):
        steps = [torch.stack([layer[row].double().mean(0) for layer in step]).mean(0) for step in maps]
        by = [0.5, 0.5] if weights is None else weights[row]
        average = by[0] * steps[0] + by[1] * steps[1]
        assert float(found[row]) == pytest.approx(float(average[:, tokens[row]].flatten().var()), rel=1e-4)
