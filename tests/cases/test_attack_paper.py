"""The full-size path on a tiny Stable Diffusion of random weights: the same classes, saved to disk and loaded."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from PIL import Image
from skimage import data
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, ResNetConfig, ResNetForImageClassification

from pitprop import PitpropError
from pitprop.cases.timestep_attack import paper_run
from pitprop.cases.timestep_attack.imagenet_folder import load_image, read_folder, read_names
from pitprop.cases.timestep_attack.options import Options
from pitprop.cases.timestep_attack.paper import Surrogate, attack_images, load
from pitprop.cases.timestep_attack.run import run
from pitprop.cases.timestep_attack.settings import PAPER, Settings
from pitprop.cases.timestep_attack.stable_diffusion import StableDiffusion
from pitprop.cases.timestep_attack.weights import INITIAL, Stream

RESOLUTION = 64
"""Latents of 8 x 8, cross-attention maps of 2 x 2 at a quarter of that."""
FEW = Settings(num_steps=6, start_step=4, iterations=3, null_iterations=1)
NAMES = tuple("ab" if label % 2 else "a" for label in range(1000))


def save_diffusion(folder, **save):
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=16,
        use_linear_projection=True,
    ).save_pretrained(folder / "unet", **save)
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.18215,
    ).save_pretrained(folder / "vae", **save)
    words = ["a", "b", "a</w>", "b</w>", "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=12)
    tokenizer.save_pretrained(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=5,
        eos_token_id=6,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
    ).save_pretrained(folder / "scheduler")


def save_surrogate(folder, num_labels=1000):
    torch.manual_seed(1)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=num_labels
    )
    if num_labels == 1000:
        config.id2label = {label: f"{name}, another name" for label, name in enumerate(NAMES)}
    ResNetForImageClassification(config).save_pretrained(folder)


def save_images(folder, labels="6\n11\n"):
    (folder / "images").mkdir(parents=True)
    for name, pixels in (("10.png", data.astronaut()), ("2.png", data.coffee())):
        Image.fromarray(pixels).save(folder / "images" / name)
    (folder / "labels.txt").write_text(labels)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("paper")
    save_diffusion(root / "diffusion")
    save_surrogate(root / "surrogate")
    save_images(root / "data")
    return root


@pytest.fixture(scope="module")
def paper(folders):
    return load(folders / "diffusion", folders / "surrogate", folders / "data", resolution=RESOLUTION, device="cpu")


def test_the_configuration_is_the_originals():
    assert (PAPER.num_steps, PAPER.start_step, PAPER.num_active, PAPER.iterations) == (20, 15, 5, 30)
    assert (PAPER.guidance, PAPER.alpha, PAPER.beta, PAPER.gamma) == (2.5, 10, 10_000, 100)
    assert (PAPER.latent_lr, PAPER.null_lr, PAPER.null_iterations, PAPER.null_growth) == (1e-2, 1e-1, 10, 2)


def test_the_schedule_is_stable_diffusions_though_the_folder_names_another_scheduler(paper):
    backbone = paper.backbone
    assert backbone.timesteps(20).tolist() == list(range(951, 0, -50))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    torch.testing.assert_close(backbone.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4, atol=0)
    assert backbone.final_alpha_cumprod == pytest.approx(float(1 - betas[0]))
    assert backbone.cross_queries == 4 and not any(p.requires_grad for p in backbone.unet.parameters())


def test_images_are_encoded_the_same_way_in_every_row_and_decoded_with_a_gradient(paper):
    image = load_image(paper.photographs[0].path, RESOLUTION)
    alone, among = paper.backbone.encode(image[None]), paper.backbone.encode(torch.stack([image.flip(0), image]))
    assert alone.shape == (1, 4, 8, 8)
    torch.testing.assert_close(alone[0], among[1], rtol=1e-4, atol=1e-5)
    posterior = paper.backbone.vae.encode(image[None]).latent_dist
    expected = 0.18215 * posterior.sample(torch.Generator().manual_seed(8888))  # as the original does it
    torch.testing.assert_close(alone, expected.detach())
    latent = alone.clone().requires_grad_()
    paper.backbone.decode(latent).square().sum().backward()
    assert latent.grad.abs().sum() > 0


def test_prompts_are_the_surrogates_names_and_their_tokens_are_found(paper):
    backbone = paper.backbone
    assert paper.surrogate.class_names == NAMES == backbone.class_names
    labels = torch.tensor([0, 1])
    assert backbone.context(labels).shape == (2, 12, 16) and backbone.null_context(3).shape == (3, 12, 16)
    tokens = backbone.label_tokens(labels)
    assert tokens.nonzero()[:, 0].unique().tolist() == [0, 1] and not tokens[:, 0].any()
    for label, row in enumerate(tokens):  # original: map[:, :, 1 : len(tokenizer.encode(label)) - 1]
        assert row.nonzero()[:, 0].tolist() == list(range(1, len(backbone.tokenizer.encode(NAMES[label])) - 1))


def test_without_a_control_the_unet_is_diffusers_own(paper, folders):
    plain = UNet2DConditionModel.from_pretrained(folders / "diffusion" / "unet").eval()
    latents, context = torch.randn(2, 4, 8, 8), paper.backbone.context(torch.tensor([0, 1]))
    seen = []
    show = lambda maps, is_cross, place: seen.append((maps, is_cross, place)) or maps  # noqa: E731
    with torch.no_grad():
        expected = plain(latents, 51, encoder_hidden_states=context).sample
        for control in (None, show):
            found = paper.backbone.predict_noise(latents, 51, context, control)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert [is_cross for _, is_cross, _ in seen] == [False, True] * (len(seen) // 2)
    assert [place for _, _, place in seen] == ["down"] * 6 + ["mid"] * 2 + ["up"] * 12
    for maps, is_cross, _ in seen:
        assert maps.shape[0] == 2 and maps.shape[-1] == (12 if is_cross else maps.shape[-2])
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


def test_a_control_replaces_maps_and_none_is_left_after_an_error(paper):
    latents, context = torch.randn(1, 4, 8, 8), paper.backbone.context(torch.tensor([0]))
    uniform = lambda maps, is_cross, place: torch.full_like(maps, 1 / maps.shape[-1])  # noqa: E731

    def refuse(maps, is_cross, place):
        raise RuntimeError("no")

    with torch.no_grad():
        before = paper.backbone.predict_noise(latents, 51, context)
        assert (paper.backbone.predict_noise(latents, 51, context, uniform) - before).abs().max() > 1e-5
        with pytest.raises(RuntimeError, match="no"):
            paper.backbone.predict_noise(latents, 51, context, refuse)
        assert torch.equal(paper.backbone.predict_noise(latents, 51, context), before)


def test_one_image_is_attacked_under_several_modes(paper):
    initial = INITIAL[:2]
    streams = [Stream(mode=mode, schedule=initial) for mode in ("learnable", "learnable_detached", "min_snr")]
    [found] = attack_images(paper, streams, num_images=1, settings=FEW)
    result = found.result
    assert found.photograph.path.name == "2.png" and found.photograph.label == 5
    assert result.images.shape == (3, 3, 64, 64) and result.images.abs().max() <= 1
    assert len(found.fooled) == 3 and found.original.shape == (3, 64, 64)
    assert result.self_losses.shape == (3, 3, 2) and torch.isfinite(result.attack_loss).all()
    assert not result.self_losses[0].any() and (result.self_losses[-1] > 0).all()
    moved = (result.weights[-1] - result.weights[0]).abs().sum(-1)
    assert moved[0] > 0 and not moved[1:].any()
    assert torch.equal(result.cross_weights[0], result.cross_weights[-1])


def test_images_are_read_in_natural_order_and_resized_as_the_original_does(folders):
    photographs = read_folder(folders / "data")
    assert [(photograph.path.name, photograph.label) for photograph in photographs] == [("2.png", 5), ("10.png", 10)]
    found = load_image(photographs[1].path, 224)
    resized = Image.fromarray(data.astronaut()).resize((224, 224), resample=Image.Resampling.LANCZOS)
    expected = np.asarray(resized).astype(np.float32) / 255 * 2 - 1
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-6)


def test_the_surrogate_normalises_as_imagenet_does_or_as_its_folder_says(paper, folders, tmp_path):
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(paper.surrogate(images), paper.surrogate.model(pixels).logits)
    save_surrogate(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    torch.testing.assert_close(Surrogate(tmp_path)(images), Surrogate(tmp_path).model(images).logits)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": 3}')
    with pytest.raises(PitpropError, match=r"preprocessor_config\.json can't be read"):
        Surrogate(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("1\n", "holds 2 images, .* 1 labels"),
        ("1\n0\n", r"Line 2 of .*labels\.txt is '0'"),
        ("1001\n1\n", "is '1001'"),
        ("cat\n1\n", "is 'cat'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, message):
    save_images(tmp_path, labels)
    with pytest.raises(PitpropError, match=message):
        read_folder(tmp_path)


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(PitpropError, match=r"There is no .*images\nthe full-size attack reads"):
        read_folder(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(PitpropError, match=r"There is no .*labels\.txt"):
        read_folder(tmp_path)
    (tmp_path / "labels.txt").write_text("")
    with pytest.raises(PitpropError, match="holds 0 images"):
        read_folder(tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    with pytest.raises(PitpropError, match=r"1\.png can't be read as an image"):
        load_image(tmp_path / "images" / "1.png", 8)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(PitpropError, match="holds 2 class names"):
        read_names(tmp_path / "names.txt")
    with pytest.raises(PitpropError, match=r"nothing\.txt can't be read"):
        read_names(tmp_path / "nothing.txt")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    assert read_names(tmp_path / "names.txt") == NAMES


def test_folders_without_safe_weights_are_refused(folders, tmp_path):
    with pytest.raises(PitpropError, match=r"unet is no folder\nthe UNet2DConditionModel .* nothing is downloaded"):
        StableDiffusion(tmp_path / "nothing", NAMES)
    save_diffusion(tmp_path, safe_serialization=False)
    with pytest.raises(PitpropError, match=r"no weights in safetensors, only diffusion_pytorch_model\.bin\npickled"):
        StableDiffusion(tmp_path, NAMES)
    for path in (tmp_path / "unet").glob("*.bin"):
        path.with_suffix(".safetensors").write_bytes(path.read_bytes()[:1000])  # a pickle under a safe name
        path.unlink()
    with pytest.raises(PitpropError, match="unet can't be loaded as a UNet2DConditionModel"):
        StableDiffusion(tmp_path, NAMES)
    with pytest.raises(PitpropError, match="The resolution 100 isn't a multiple of 32"):
        StableDiffusion(folders / "diffusion", NAMES, resolution=100)
    save_surrogate(tmp_path / "ten", num_labels=10)
    pickled = tmp_path / "pickled"
    save_surrogate(pickled)
    torch.save(Surrogate(pickled).model.state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(PitpropError, match=r"no weights in safetensors, only pytorch_model\.bin\npickled"):
        Surrogate(pickled)
    with pytest.raises(PitpropError, match="has 10 labels"):
        Surrogate(tmp_path / "ten")


@pytest.fixture
def few(monkeypatch, folders):
    """Options of the preset, with a small attack behind them."""
    monkeypatch.setattr(paper_run, "PAPER", FEW)
    named = {"stable_diffusion": folders / "diffusion", "surrogate": folders / "surrogate", "data": folders / "data"}
    return Options(preset="paper", resolution=RESOLUTION, device="cpu", **named)


@pytest.mark.slow
def test_the_preset_writes_images_weights_and_what_the_rule_says(few, tmp_path):
    result = run(tmp_path / "out", replace(few, images=1))
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"2-learnable.png", "2-fixed.png", "weights.npz", "summary.json"}
    assert written == {path.name for path in result.files} and not result.diagnose
    assert load_image(tmp_path / "out" / "2-fixed.png", RESOLUTION).std() > 0
    with np.load(tmp_path / "out" / "weights.npz") as kept:
        assert kept["weights"].shape == kept["losses"].shape == (3, 2, 2)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["fixed"]["first"] == summary["fixed"]["last"] and summary["learnable"]["images"] == 1
    assert [name for name, _ in result.rows] == ["fixed", "learnable"] and result.rows[0][1].startswith("success")


@pytest.mark.slow
def test_a_run_that_breaks_off_keeps_the_images_that_were_done(few, tmp_path, monkeypatch):
    def one_then_none(*args, **kwargs):
        yield next(iter(attack_images(*args, **kwargs)))
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(paper_run, "attack_images", one_then_none)
    with pytest.raises(PitpropError, match=r"2 streams at once takes too much memory: no more\nDo: take one --mode"):
        run(tmp_path, few)
    assert json.loads((tmp_path / "summary.json").read_text())["fixed"]["images"] == 1
    assert (tmp_path / "weights.npz").is_file() and (tmp_path / "2-fixed.png").is_file()


@pytest.mark.parametrize(
    ("changes", "claims", "said"),
    [
        ({"images": 0}, False, "at least one image"),
        ({"images": -1}, False, "at least one image"),
        ({"seeds": 0}, False, "at least one image and one seed"),
        ({"device": "nope"}, False, "There is no device `nope`: Expected one of cpu"),
        ({"device": "meta"}, False, "There is no device `meta`: the known kinds are cpu"),
        ({"resolution": 0}, False, "The resolution 0 is no number of pixels"),
        ({"data": None, "surrogate": None}, False, r"needs --surrogate, --data\.\nnone of it is bundled"),
        ({}, True, "Claims are judged from runs of the preset `laptop` only"),
    ],
)
def test_what_the_preset_can_not_run_is_explained_before_anything_is_loaded(
    few, tmp_path, monkeypatch, changes, claims, said
):
    monkeypatch.setattr(paper_run, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(PitpropError, match=said):
        run(tmp_path, replace(few, **changes), claims=claims)


def test_every_image_is_opened_before_anything_is_loaded(few, tmp_path, monkeypatch):
    monkeypatch.setattr(paper_run, "load", lambda *_, **__: pytest.fail("loaded"))
    save_images(tmp_path / "data")
    (tmp_path / "data" / "images" / "10.png").write_bytes(b"no image")
    with pytest.raises(PitpropError, match=r"10\.png can't be read as an image"):
        run(tmp_path, replace(few, data=tmp_path / "data"))


def test_an_output_folder_that_is_a_file_is_refused(few, tmp_path):
    (tmp_path / "file").write_text("")
    for options in (few, Options()):
        with pytest.raises(PitpropError, match=r"file can't be made: .*\nDo: name another folder with --out"):
            run(tmp_path / "file", options)
