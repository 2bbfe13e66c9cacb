"""The system: frozen towers, adapters, the injections' identities, the losses against slow twins, populations."""

import numpy as np
import pytest
import torch
from clip_small import SIZE

from pitprop.cases.clip_anomaly.adapters import SimpleAdapter, adapt
from pitprop.cases.clip_anomaly.clip import contrastive_loss
from pitprop.cases.clip_anomaly.cross_attention import VARIANTS, CrossAttention, Injection
from pitprop.cases.clip_anomaly.losses import dice, focal, loss, similarity_maps, text_loss
from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.population import BETAS, PARTS, fit, rows
from pitprop.cases.clip_anomaly.prompts import WORDS, prompts
from pitprop.cases.clip_anomaly.sample import Batch, take
from pitprop.cases.clip_anomaly.surfaces import pool
from pitprop.cases.clip_anomaly.towers import SmallCLIP

NAMES = ("brick", "grass", "gravel", "coins", "moon", "camera")


@pytest.fixture(scope="module")
def images() -> Batch:
    return pool("train", 12, SIZE.image_size)


def model(variant: str | Injection | None, images: Batch, *, norm: float | None = 50.0, seed: int = 0) -> AdaptedCLIP:
    torch.manual_seed(7)
    towers = SmallCLIP(SIZE, (*WORDS, *NAMES))
    torch.manual_seed(seed)
    injection = VARIANTS[variant] if isinstance(variant, str) else variant  # type: ignore[index]
    made = AdaptedCLIP(towers, injection, size=SIZE, class_names=NAMES, context_norm=norm)
    made.set_text(made.stream(images.image), made.frozen(images.image)[1])
    return made


def prepared(made: AdaptedCLIP, images: Batch) -> Batch:
    features, context = made.frozen(images.image)
    return images._replace(stream=made.stream(images.image).detach(), features=features, context=context)


def test_there_are_six_normal_and_ten_abnormal_prompts():
    normal, abnormal = prompts("brick")
    assert (len(normal), len(abnormal)) == (6, 10)
    assert "a photo of the brick." in normal and "a brick with flaw." in abnormal


def test_the_towers_are_frozen_and_everything_else_is_trained(images):
    made = model("A", images)
    loss(made, images).backward()
    assert all(p.grad is None for p in made.clip.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.image_adapter.parameters())
    assert all(p.grad is None for p in made.text_adapter.parameters())


@pytest.mark.parametrize("norm", [1.0, 10.0, 50.0])
def test_the_context_norm_is_the_wanted_multiple_of_the_streams(images, norm):
    made = model("A", images, norm=norm)
    ratio = made.text_context.norm(dim=-1).mean() / made.stream(images.image).norm(dim=-1).mean()
    assert ratio.item() == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("norm", [1.0, 50.0])
def test_the_complete_fix_adds_a_tenth_of_the_streams_length_whatever_the_context(images, norm):
    made = model("C", images, norm=norm)
    assert made.image_cross_attn is not None
    stream = made.stream(images.image)
    branch = made.image_cross_attn(stream, made.text_context[images.class_index])
    torch.testing.assert_close(branch.norm(dim=-1) / stream.norm(dim=-1), torch.full(stream.shape[:2], 0.1))


def test_a_zero_initialised_projection_keeps_the_base_exactly(images):
    made = model("D", images)
    with_, without = made(images), made(images, cross_attention=False)
    assert torch.equal(with_.patches, without.patches) and torch.equal(with_.detection, without.detection)


def test_the_seeds_fix_is_a_tenth_of_its_bug(images):
    bug, fix = model("A", images), model("B", images)
    assert bug.image_cross_attn is not None and fix.image_cross_attn is not None
    stream, context = bug.stream(images.image), bug.text_context[images.class_index]
    torch.testing.assert_close(fix.image_cross_attn(stream, context), 0.1 * bug.image_cross_attn(stream, context))


def test_learned_factors_start_at_the_fixed_one_and_get_a_gradient():
    x, context = torch.randn(2, 5, 16), torch.randn(2, 7, 8)
    for learned, name in (("scalar", "scalar"), ("channels", "channels.gain")):
        torch.manual_seed(0)
        fixed = CrossAttention(16, 8, 2, Injection(weight=0.1))
        torch.manual_seed(0)
        own = CrossAttention(16, 8, 2, Injection(weight=0.1, learned=learned))
        torch.testing.assert_close(own(x, context), fixed(x, context))
        own(x, context).square().sum().backward()
        gradient = own.get_parameter(name).grad
        assert gradient is not None and gradient.abs().sum() > 0


def test_cross_attention_is_pytorchs_own():
    torch.manual_seed(0)
    ours = CrossAttention(8, 8, 2, Injection())
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        theirs.out_proj.bias.zero_()
    x, context = torch.randn(3, 4, 8), torch.randn(3, 6, 8)
    torch.testing.assert_close(ours(x, context), theirs(x, context, context)[0])


def test_an_adapter_is_convex_and_norm_matched():
    adapter, x = SimpleAdapter(6, 6), torch.randn(4, 6)
    out = adapter(x)
    expected = 0.1 * out * x.norm(dim=-1, keepdim=True) / out.norm(dim=-1, keepdim=True) + 0.9 * x
    torch.testing.assert_close(adapt(adapter, x), expected, rtol=1e-4, atol=1e-5)


def test_focal_and_dice_are_their_formulas():
    rng = np.random.default_rng(0)
    p, mask = rng.random((4, 4)), (rng.random((4, 4)) < 0.4).astype(float)
    maps, truth = torch.tensor(np.stack([1 - p, p])), torch.tensor(mask)
    each = [-((1 - q) ** 2) * np.log(q) for q in np.where(mask > 0, p, 1 - p).ravel()]
    assert focal(maps, truth).item() == pytest.approx(np.mean(each), rel=1e-3)
    expected = 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)
    assert dice(maps[1], truth).item() == pytest.approx(expected)


def test_the_originals_stage_1_trains_on_the_last_level_alone(images):
    made = model(None, images)
    batch = prepared(made, images)
    assert batch.features is not None
    noise = batch._replace(features=torch.cat([torch.randn_like(batch.features[:1]), batch.features[1:]]))
    assert text_loss(made, batch, original=True) == text_loss(made, noise, original=True)
    assert text_loss(made, batch) != text_loss(made, noise)
    assert text_loss(made, batch) > text_loss(made, batch, original=True)


def test_maps_are_the_softmax_of_the_interpolated_similarities():
    patches, text = torch.randn(1, 1, 4, 3), torch.randn(1, 3, 2)
    found = similarity_maps(patches, text, 2)  # with corners aligned, a 2 x 2 grid is its own interpolation
    expected = (100 * patches[0, 0] @ text[0]).softmax(-1).T.reshape(2, 2, 2)
    torch.testing.assert_close(found[0, 0], expected)


def test_captions_of_the_same_class_and_state_may_be_swapped():
    torch.manual_seed(0)
    image, text, scale = torch.randn(3, 4), torch.randn(3, 4), torch.tensor(1.0)
    swapped = text[[1, 0, 2]]
    same = torch.tensor([0, 0, 1])
    torch.testing.assert_close(
        contrastive_loss(image, swapped, same, scale), contrastive_loss(image, text, same, scale)
    )
    each = torch.arange(3)
    assert contrastive_loss(image, swapped, each, scale) != contrastive_loss(image, text, each, scale)


def test_a_population_is_trained_as_its_members_would_be_alone(images):
    members = [model("B", images, norm=1.0, seed=seed) for seed in (0, 1)]
    batch = prepared(members[0], images)
    which = rows((0, 1), 12, 3, 3)
    alone = model("B", images, norm=1.0, seed=1)
    log = fit(members, batch, which, loss, PARTS["image"], lr=1e-3, milestones=())
    trained = [p for name, p in alone.named_parameters() if name.split(".")[0] in PARTS["image"]]
    optimizer = torch.optim.Adam(trained, lr=1e-3, betas=BETAS)
    losses = []
    for images_of_step in which[:, 1]:
        value = loss(alone, take(batch, images_of_step))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.detach())
    torch.testing.assert_close(log.loss[:, 1], torch.stack(losses), rtol=1e-4, atol=1e-4)
    last = torch.cat([p.grad.flatten() for p in alone.image_adapter.parameters() if p.grad is not None]).norm()
    torch.testing.assert_close(log.gradient_norms["image_adapter"][-1, 1], last, rtol=1e-3, atol=1e-4)
    key_bias = "image_cross_attn.k_proj.bias"  # the softmax is blind to it: its gradient is rounding, Adam's step isn't
    for name, value in alone.named_parameters():
        if name != key_bias:
            torch.testing.assert_close(members[1].get_parameter(name), value, rtol=1e-3, atol=2e-4)


def test_what_is_drawn_depends_on_the_seed_alone():
    assert torch.equal(rows((3,), 100, 4, 5)[:, 0], rows((1, 3), 100, 4, 5)[:, 1])
    assert not torch.equal(rows((3,), 100, 4, 5), rows((3,), 100, 4, 5, stage=1))
