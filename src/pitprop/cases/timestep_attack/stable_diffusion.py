"""Stable Diffusion from a local folder, as the attack's backbone: the original's own denoiser.

The folder is what diffusers saves (`unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`), with weights in
safetensors: pickled ones (`.bin`, `.ckpt`) run code when loaded and are refused. Nothing is downloaded. The original's
model is Stable Diffusion 2 base at 224 x 224, with DDIM in place of the scheduler in the folder.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from pitprop._errors import PitpropError
from pitprop.cases.timestep_attack.backbone import Control

READ = "src/pitprop/cases/timestep_attack/README.md"
RESOLUTION = 224
ENCODE_SEED = 8888
"""Of the original's VAE encoding, so that an image has one latent."""


class StableDiffusion:
    """Fulfils `backbone.Backbone`; all weights frozen, in float32.

    Args:
        folder: As diffusers saves a pipeline.
        class_names: Prompt of each label, by number.
        resolution: Side of the images in pixels, a multiple of 4 latent cells.
        device: Where it computes.

    Raises:
        PitpropError: No such folder, a part of it missing, damaged or in `.bin` only, or a resolution that doesn't fit.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        *,
        resolution: int = RESOLUTION,
        device: torch.device | str = "cpu",
    ):
        self.device, self.class_names = torch.device(device), tuple(class_names)
        sparing = {"low_cpu_mem_usage": find_spec("accelerate") is not None}  # diffusers warns where it can't
        self.unet = frozen(load_part(UNet2DConditionModel, folder, "unet", **sparing), device)
        self.vae = frozen(load_part(AutoencoderKL, folder, "vae", **sparing), device)
        self.text_encoder = frozen(load_part(CLIPTextModel, folder, "text_encoder"), device)
        self.tokenizer = load_part(CLIPTokenizer, folder, "tokenizer", weights=False)
        # Of whatever class the folder names, only the noise schedule is read.
        self.scheduler = load_part(DDIMScheduler, folder, "scheduler", weights=False)
        cell = 2 ** (len(self.vae.config.block_out_channels) - 1)
        if resolution % (4 * cell):
            raise PitpropError(
                f"The resolution {resolution} isn't a multiple of {4 * cell}",
                means="the attack reads cross-attention maps at a quarter of the latent's side.",
                do=f"choose one, {RESOLUTION} in the original.",
            )
        self.cross_queries = (resolution // (4 * cell)) ** 2
        self._control: Control | None = None
        self.unet.set_attn_processor(
            {name: ShownAttention(_place(name), lambda: self._control) for name in self.unet.attn_processors}  # type: ignore[arg-type]
        )

    @property
    def alphas_cumprod(self) -> Float[Tensor, " train_timestep"]:
        """The scheduler's."""
        return self.scheduler.alphas_cumprod.to(self.device)

    @property
    def final_alpha_cumprod(self) -> float:
        """The scheduler's: the first of `alphas_cumprod` in Stable Diffusion."""
        return float(self.scheduler.final_alpha_cumprod)

    def timesteps(self, num_steps: int) -> Int[Tensor, " step"]:
        """951, 901, ..., 1 for 20 steps of Stable Diffusion."""
        self.scheduler.set_timesteps(num_steps)
        return self.scheduler.timesteps

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "stream channel height width"]) -> Float[Tensor, "stream latent h w"]:
        """A draw of the VAE's posterior with the same noise for every image, scaled."""
        posterior = self.vae.encode(images.to(self.device)).latent_dist
        noise = torch.randn(posterior.mean[:1].shape, generator=torch.Generator().manual_seed(ENCODE_SEED))
        return (posterior.mean + posterior.std * noise.to(self.device)) * self.vae.config.scaling_factor

    def decode(self, latents: Float[Tensor, "stream latent h w"]) -> Float[Tensor, "stream channel height width"]:
        """Differentiable."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample

    def context(self, labels: Int[Tensor, " stream"]) -> Float[Tensor, "stream token width"]:
        """The text encoder's states for the class names."""
        return self._embed([self.class_names[label] for label in labels.tolist()])

    def null_context(self, num_streams: int) -> Float[Tensor, "stream token width"]:
        """Of the empty prompt."""
        return self._embed([""]).expand(num_streams, -1, -1)

    def label_tokens(self, labels: Int[Tensor, " stream"]) -> Bool[Tensor, "stream token"]:
        """The tokens between start and end of the text."""
        names = [self.class_names[label] for label in labels.tolist()]
        attended = torch.tensor(self._tokenise(names)["attention_mask"], device=self.device)
        place = torch.arange(attended.shape[1], device=self.device)
        return (place > 0) & (place < attended.sum(1, keepdim=True) - 1)

    def predict_noise(
        self,
        latents: Float[Tensor, "stream latent h w"],
        timestep: int,
        context: Float[Tensor, "stream token width"],
        control: Control | None = None,
    ) -> Float[Tensor, "stream latent h w"]:
        """The U-Net's; `control` gets every attention map of it, and what it returns is gone on with."""
        self._control = control
        try:
            return self.unet(latents, timestep, encoder_hidden_states=context).sample
        finally:
            self._control = None

    def _tokenise(self, prompts: list[str]) -> Any:
        return self.tokenizer(
            prompts, padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True
        )

    @torch.no_grad()
    def _embed(self, prompts: list[str]) -> Float[Tensor, "prompt token width"]:
        tokens = torch.tensor(self._tokenise(prompts)["input_ids"], device=self.device)
        return self.text_encoder(tokens).last_hidden_state


class ShownAttention:
    """diffusers' plain attention processor, with the map shown to a control before it is applied.

    Args:
        place: `down`, `mid` or `up`.
        control: Called in each pass; returns who looks, or None.
    """

    def __init__(self, place: str, control: Callable[[], Control | None]):
        self.place, self.control = place, control

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "stream query width"],
        encoder_hidden_states: Float[Tensor, "stream token context"] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "stream query width"]:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            attn.head_to_batch_dim(layer(x))
            for layer, x in ((attn.to_q, hidden_states), (attn.to_k, source), (attn.to_v, source))
        )
        attention = attn.get_attention_scores(q, k, attention_mask)
        if (control := self.control()) is not None:
            heads = attention.unflatten(0, (-1, attn.heads))
            attention = control(heads, encoder_hidden_states is not None, self.place).flatten(0, 1)
        attended = attn.batch_to_head_dim(attention @ v)
        return attn.to_out[1](attn.to_out[0](attended))


def load_part(kind: Any, folder: Path, name: str, *, weights: bool = True, **options: Any) -> Any:
    """One part of a pipeline's folder (`name` empty: the folder itself), from local safetensors alone.

    Args:
        kind: A class of diffusers or transformers with `from_pretrained`.
        folder: The pipeline's.
        name: The part's subfolder.
        weights: Whether the part has any; they are then loaded from safetensors or not at all.
        options: Further ones of `from_pretrained`.

    Raises:
        PitpropError: It isn't there, holds weights in another format only, or can't be loaded.
    """
    place = Path(folder) / name
    if not place.is_dir():
        raise PitpropError(
            f"{place} is no folder",
            means=f"the {kind.__name__} of the full-size attack is read from there; nothing is downloaded.",
            do="save one there (`save_pretrained`), or give the folder that has it.",
            read=READ,
        )
    if weights and not list(place.glob("*.safetensors")):
        others = sorted(path.name for path in place.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        raise PitpropError(
            f"{place} holds no weights in safetensors" + (f", only {', '.join(others)}" if others else ""),
            means="pickled weights can run any code when they are loaded." if others else "there is nothing to load.",
            do="save it anew with `save_pretrained(folder, safe_serialization=True)` where you trust it.",
            read=READ,
        )
    try:
        return kind.from_pretrained(
            place, local_files_only=True, **({"use_safetensors": True} if weights else {}), **options
        )
    except Exception as error:  # whatever two libraries raise for a damaged file; nothing of ours runs in there
        raise PitpropError(
            f"{place} can't be loaded as a {kind.__name__}: {type(error).__name__}: {error}",
            means="a file in it is missing, damaged, or of another model.",
            do="save it anew with `save_pretrained`.",
            read=READ,
        ) from error


def frozen(model: Any, device: torch.device | str) -> Any:
    """`model` on `device`, in evaluation mode, without gradients of its own."""
    return model.to(device).eval().requires_grad_(False)


def _place(name: str) -> str:
    return name.split("_", 1)[0]
