"""The paper's path, at the size of a tiny random CLIP in the same format: the real files, nothing downloaded."""

import pytest
import torch
from clip_paper import EMBED, IMAGE_SIZE, PATCH, WIDTH, config, tiny_clip
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from pitprop import PitpropError
from pitprop.cases.clip_anomaly.options import PAPER
from pitprop.cases.clip_anomaly.paper import MEAN, STD, load_clip, resized, size_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def images(side: int, num: int = 2) -> torch.Tensor:
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(100))


@torch.no_grad()
def test_the_image_tower_computes_what_transformers_does(folder):
    clip, _ = load_clip(folder, IMAGE_SIZE)
    twin = CLIPModel.from_pretrained(folder).eval()
    image = images(IMAGE_SIZE)
    pixels = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    x = clip.visual.stem(image)
    for block in clip.visual.blocks:
        x = block(x)
    expected = twin.vision_model(pixels)
    torch.testing.assert_close(x, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    mine = clip.visual.project(clip.visual.ln_post(x[:, 0]))
    torch.testing.assert_close(mine, twin.visual_projection(expected.pooler_output), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_grid_of_positions_is_resized_as_transformers_does(folder):
    side = 6 * PATCH
    clip, size = load_clip(folder, side)
    assert (size.image_size, size.patch) == (side, PATCH)
    twin = CLIPModel.from_pretrained(folder).eval()
    image = images(side)
    pixels = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    expected = twin.vision_model.pre_layrnorm(twin.vision_model.embeddings(pixels, interpolate_pos_encoding=True))
    torch.testing.assert_close(clip.visual.stem(image), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_text_tower_computes_what_transformers_does(folder):
    clip, _ = load_clip(folder, IMAGE_SIZE)
    twin = CLIPModel.from_pretrained(folder).eval()
    ids = clip.text.tokenise(["a photo of a candle.", "a damaged pcb1"])
    assert ids.shape == (2, 77) and int(ids[0, -1]) == 0
    x = clip.text.stem(ids)
    for block in clip.text.blocks:
        x = block(x)
    end = clip.text.ln_final(x)[torch.arange(2), clip.text.end(ids)]
    expected = twin.text_model(input_ids=ids).pooler_output
    torch.testing.assert_close(end, expected, rtol=1e-4, atol=1e-5)


def test_long_prompts_keep_their_end(folder):
    clip, _ = load_clip(folder, IMAGE_SIZE)
    ids = clip.text.tokenise(["a " * 200])
    assert ids.shape == (1, 77) and int(clip.text.end(ids)) == 76


@torch.no_grad()
def test_surgery_is_attention_of_values_to_values(folder):
    clip, _ = load_clip(folder, IMAGE_SIZE)
    block, x = clip.visual.blocks[0], clip.visual.stem(images(IMAGE_SIZE))
    attention = block.layer.self_attn
    v = attention.v_proj(block.layer.layer_norm1(x)).unflatten(-1, (2, -1)).transpose(1, 2)
    weights = (v @ v.transpose(-1, -2) / v.shape[-1] ** 0.5).softmax(-1)
    y = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
    y = y + block.layer.mlp(block.layer.layer_norm2(y))
    torch.testing.assert_close(block(x, surgery=True), y, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(block(x), y, atol=1e-4)


def test_a_clip_of_the_papers_depth_gets_the_papers_adapters_and_levels():
    big = config(
        49408, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, projection_dim=768
    )
    big.projection_dim = 768
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
    for name, value in vision.items():
        setattr(big.vision_config, name, value)
    assert size_of(big, 518) == PAPER
    assert (PAPER.image_size // PAPER.patch) ** 2 == 1369


def test_a_shallow_clip_gets_their_shares(folder):
    size = load_clip(folder, IMAGE_SIZE)[1]
    assert (size.levels, size.image_adapters, size.text_adapters, size.surgery_layers) == ((1, 2, 3, 4), 1, 1, 3)
    assert (size.vision_width, size.embed) == (WIDTH, EMBED)


def test_resizing_to_the_same_grid_changes_nothing():
    position = torch.randn(17, 5)
    assert torch.equal(resized(position, 4)[0], position)
    assert resized(position, 7).shape == (1, 50, 5)
    assert torch.equal(resized(position, 7)[0, 0], position[0])


def test_pickled_weights_are_refused(tmp_path):
    folder = tiny_clip(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(PitpropError, match=r"no weights as safetensors, but pytorch_model.bin(.|\n)*can run any code"):
        load_clip(folder)


def test_folders_that_hold_no_clip(tmp_path, folder):
    with pytest.raises(PitpropError, match="There is no folder"):
        load_clip(tmp_path / "absent")
    with pytest.raises(PitpropError, match="no weights as safetensors"):
        load_clip(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(PitpropError, match="can't be loaded as a CLIP"):
        load_clip(tmp_path)
    with pytest.raises(PitpropError, match="33 pixels can't be cut into patches of 8"):
        load_clip(folder, 33)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", None),  # broken off in the middle
        ("model.safetensors", b""),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b"\xff\xfe"),
        ("tokenizer.json", b"{}"),
    ],
)
def test_damaged_files_are_refused_in_words(tmp_path, name, content):
    damaged = tiny_clip(tmp_path) / name
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(PitpropError, match=r"can't be loaded as a CLIP: .+"):
        load_clip(tmp_path, IMAGE_SIZE)


def test_weights_that_lack_tensors_are_refused(tmp_path):
    folder = tiny_clip(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PitpropError, match=r"lack 1 tensors of a CLIP, `visual_projection.weight`"):
        load_clip(folder, IMAGE_SIZE)


def test_a_folder_without_a_tokeniser_is_refused(tmp_path):
    folder = tiny_clip(tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(PitpropError, match="holds no tokeniser"):
        load_clip(folder, IMAGE_SIZE)


def test_a_text_tower_of_another_width_is_refused(tmp_path):
    folder = tiny_clip(tmp_path, hidden_size=32)
    with pytest.raises(PitpropError, match="text tower is 32 wide and its common space 16"):
        load_clip(folder, IMAGE_SIZE)
