"""The real CLIP in the shape of the small one: a transformers `CLIPModel` from a local folder, at another image size.

The folder holds `config.json`, `model.safetensors` and a tokeniser, as the Hub's `openai/clip-vit-large-patch14-336`
does. Nothing is downloaded, and nothing is unpickled: a folder with `pytorch_model.bin` alone is refused.

Source: AA-CLIP's `model/clip.py` for what is done to the towers, written anew over transformers' modules: the grid of
positions is resized (bicubic), and the attention of values to values (`surgery=True`) takes the place of the blocks'
own where the frozen features of stage 1 are read.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn

from pitprop._errors import PitpropError
from pitprop.cases.clip_anomaly.options import PAPER, ClipSize
from pitprop.cases.clip_anomaly.towers import TextTower, VisionTower

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of OpenAI's CLIP, per channel of RGB in [0, 1]."""


class ClipBlock(nn.Module):
    """A block of transformers' CLIP with a choice of its attention.

    Args:
        layer: Its `CLIPEncoderLayer`, whose parameters are used as they are.
        causal: Whether a token sees only those before it.
    """

    def __init__(self, layer: Any, *, causal: bool):
        super().__init__()
        self.layer, self.causal = layer, causal

    def forward(self, x: Float[Tensor, "batch token width"], surgery: bool = False) -> Tensor:
        """`surgery`: attention of values to values (CLIP Surgery, Li et al., arXiv 2304.05653)."""
        attention, normed = self.layer.self_attn, self.layer.layer_norm1(x)
        v = self._heads(attention.v_proj(normed))
        q, k = (v, v) if surgery else (self._heads(attention.q_proj(normed)), self._heads(attention.k_proj(normed)))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.layer.mlp(self.layer.layer_norm2(x))

    def _heads(self, x: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch head token part"]:
        return x.unflatten(-1, (self.layer.self_attn.num_heads, -1)).transpose(1, 2)


class PaperVision(nn.Module):
    """The image tower, its grid of positions resized to `grid` x `grid`."""

    mean: Tensor
    std: Tensor

    def __init__(self, clip: Any, grid: int):
        super().__init__()
        tower = clip.vision_model
        self.width, self.embed = clip.config.vision_config.hidden_size, clip.config.projection_dim
        self.patch_embedding, self.class_embedding = tower.embeddings.patch_embedding, tower.embeddings.class_embedding
        self.position = nn.Parameter(resized(tower.embeddings.position_embedding.weight.detach(), grid))
        self.ln_pre, self.ln_post = tower.pre_layrnorm, tower.post_layernorm
        self.blocks = nn.ModuleList(ClipBlock(layer, causal=False) for layer in tower.encoder.layers)
        self.projection = clip.visual_projection
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def stem(self, image: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image token width"]:
        """Normalised patches by rows, behind the class token, with their positions."""
        patches = self.patch_embedding((image - self.mean) / self.std).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(image), 1, -1), patches], 1)
        return self.ln_pre(tokens + self.position)

    def project(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch embed"]:
        return self.projection(x)


class PaperText(nn.Module):
    """The text tower and its tokeniser."""

    def __init__(self, clip: Any, tokenizer: Any, length: int):
        super().__init__()
        tower = clip.text_model
        self.width, self.embed = clip.config.text_config.hidden_size, clip.config.projection_dim
        self.tokenizer, self.length = tokenizer, length
        self.token_embedding = tower.embeddings.token_embedding
        self.position = tower.embeddings.position_embedding
        self.blocks = nn.ModuleList(ClipBlock(layer, causal=True) for layer in tower.encoder.layers)
        self.ln_final, self.projection = tower.final_layer_norm, clip.text_projection

    def tokenise(self, prompts: list[str]) -> Int[Tensor, "prompt token"]:
        """Start, parts of words, end, and zeros up to the length, as OpenAI's own tokeniser pads."""
        ids = torch.zeros(len(prompts), self.length, dtype=torch.long)
        for row, found in zip(ids, self.tokenizer(prompts)["input_ids"], strict=True):
            if len(found) > self.length:  # the end token must stay
                found = [*found[: self.length - 1], found[-1]]
            row[: len(found)] = torch.tensor(found)
        return ids

    def stem(self, ids: Int[Tensor, "prompt token"]) -> Float[Tensor, "prompt token width"]:
        return self.token_embedding(ids) + self.position.weight[: ids.shape[-1]]

    def end(self, ids: Int[Tensor, "prompt token"]) -> Int[Tensor, " prompt"]:
        """Position of the end token, which has the highest number."""
        return (ids == self.tokenizer.eos_token_id).int().argmax(-1)


class PaperCLIP(nn.Module):
    """Both towers, as `AdaptedCLIP` takes them; see `load_clip`."""

    def __init__(self, clip: Any, tokenizer: Any, size: ClipSize):
        super().__init__()
        self.visual: VisionTower = PaperVision(clip, size.image_size // size.patch)
        self.text: TextTower = PaperText(clip, tokenizer, size.text_length)


def load_clip(folder: Path | str, image_size: int = PAPER.image_size) -> tuple[PaperCLIP, ClipSize]:
    """The CLIP in `folder`, for square images of `image_size` pixels, in evaluation mode, and its size.

    A CLIP of 24 and 12 layers gets adapters and levels as the original has them; of another depth, the same shares.

    Raises:
        PitpropError: transformers isn't installed; no such folder; no weights as safetensors, not those of a CLIP, or
            not all of them; no tokeniser; widths of text tower and common space that differ; an image size that the
            patches don't divide.
    """
    try:
        from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    except ImportError as error:
        raise PitpropError(
            "The preset `paper` needs transformers, which isn't installed.", do='pip install "pitprop[paper]"'
        ) from error
    folder = Path(folder)
    _expect_files(folder)
    try:
        config = CLIPConfig.from_pretrained(folder, local_files_only=True)
        loaded: Any = CLIPModel.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (  # what transformers raises for bad files
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        TypeError,
        AttributeError,
        SafetensorError,
    ) as error:
        raise PitpropError(
            f"{folder} can't be loaded as a CLIP: {_line(error)}",
            do="give the whole folder of a CLIPModel: config.json, model.safetensors and the tokeniser's files.",
        ) from error
    clip, report = loaded
    if report["missing_keys"]:
        raise PitpropError(
            f"The weights in {folder} lack {len(report['missing_keys'])} tensors of a CLIP, "
            f"`{sorted(report['missing_keys'])[0]}` among them.",
            means="They would be random.",
            do="give the folder of a whole CLIPModel.",
        )
    size = size_of(config, image_size)
    return PaperCLIP(clip, tokenizer, size).requires_grad_(False).eval(), size


def size_of(config: Any, image_size: int) -> ClipSize:
    """Size of a CLIP with this configuration, and of what is put into it.

    Raises:
        PitpropError: See `load_clip`.
    """
    vision, text = config.vision_config, config.text_config
    if text.hidden_size != config.projection_dim:
        raise PitpropError(
            f"Its text tower is {text.hidden_size} wide and its common space {config.projection_dim}.",
            means="The text context and the text features are both read in one width, as in ViT-L-14-336 (768).",
            do="use a CLIP whose text tower is as wide as its common space.",
        )
    if image_size % vision.patch_size:
        raise PitpropError(f"Images of {image_size} pixels can't be cut into patches of {vision.patch_size}.")
    layers, whole = vision.num_hidden_layers, PAPER.vision_layers
    return replace(
        PAPER,
        image_size=image_size,
        patch=vision.patch_size,
        vision_width=vision.hidden_size,
        vision_layers=layers,
        text_layers=text.num_hidden_layers,
        embed=config.projection_dim,
        num_heads=vision.num_attention_heads,
        text_length=text.max_position_embeddings,
        levels=tuple(max(1, level * layers // whole) for level in PAPER.levels),
        image_adapters=max(1, PAPER.image_adapters * layers // whole),
        text_adapters=max(1, PAPER.text_adapters * text.num_hidden_layers // PAPER.text_layers),
        surgery_layers=PAPER.surgery_layers * layers // whole,
        cross_heads=PAPER.cross_heads if config.projection_dim % PAPER.cross_heads == 0 else 1,
    )


def resized(position: Float[Tensor, "token width"], grid: int) -> Float[Tensor, "1 token_ width"]:
    """Positions of the class token and of a square grid, the latter resized to `grid` x `grid`, bicubic."""
    old = round((len(position) - 1) ** 0.5)
    if old == grid:
        return position[None].clone()
    patches = position[1:].T.reshape(1, -1, old, old)
    patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([position[None, :1], patches.flatten(2).transpose(1, 2)], 1)


def _expect_files(folder: Path) -> None:
    if not folder.is_dir():
        raise PitpropError(
            f"There is no folder {folder}.", do="give the local folder of a CLIP; nothing is downloaded."
        )
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt")))
        raise PitpropError(
            f"{folder} holds no weights as safetensors{', but ' + ', '.join(pickled) if pickled else ''}.",
            means="A pickled file can run any code when it is loaded, so it isn't." if pickled else "",
            do="save the model with `CLIPModel.save_pretrained`, which writes model.safetensors.",
        )
    if not (folder / "tokenizer.json").is_file() and not all(
        (folder / f).is_file() for f in ("vocab.json", "merges.txt")
    ):
        raise PitpropError(  # transformers would make an empty tokeniser instead
            f"{folder} holds no tokeniser.",
            do="copy tokenizer.json, or vocab.json and merges.txt, from the same model.",
        )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
