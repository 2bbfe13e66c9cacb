"""Everything that may be chosen of the set diffusion: the laptop's sizes as defaults, the original's as `PAPER`."""

from dataclasses import dataclass, replace
from typing import Literal

Initialisation = Literal["zero", "normal", "scaled"]
Accumulation = Literal["none", "apply_every", "multi_steps"]


@dataclass(frozen=True)
class Knobs:
    """Everything that may be chosen. Defaults are the original as it was, at a laptop's size.

    The laptop's learning rate is of the order that the original's 1e-4 becomes at a width of 32 in place of 468, as a
    useful rate goes with one over the width (Yang et al. 2022, arXiv 2203.03466). It was doubled on seed 100, so that
    a synchronised training uses its context within 1000 steps: the rate suits that arm, and none was looked for that
    suits replicas which learn alone.
    """

    synchronised: bool = False
    """Average the gradients of the replicas. The original didn't: each device trained a model of its own."""
    adaln: Initialisation = "zero"
    """Of the three kernels that the seed names: `zero`, `normal` (std 0.02), or `scaled` (variance 0.02 / fan in)."""
    layer_norm_scale: bool = False
    """Scale and bias in the LayerNorms of the DiT."""
    null_context: Literal["zeros", "learnable"] = "zeros"
    """What stands for "no context"."""
    shifts: bool = False
    """Concatenate the four shifted copies that shifted patch tokenisation is named after."""
    conditioning: Literal["film", "lag"] = "film"
    """`film`: the context is added to the time embedding; `lag`: cross-attention to the context's tokens."""
    accumulation: Accumulation = "none"
    """Over four steps, by `optax.apply_every` before Adam as in the seed, or by `optax.MultiSteps`."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    replicas: int = 4
    """Devices; the sets of a batch are divided among them."""
    depth: int = 3
    """Blocks in the DiT."""
    encoder_depth: int = 3
    """Blocks in the encoder."""
    clip: float = 0.0
    """Bound on the gradient's global norm; 0: none."""
    warmup: int = 0
    """Steps of linear warm-up from `lr` / 100, then a cosine to `lr` / 10 at `horizon`; 0: a constant rate."""
    horizon: int = 1000
    """Steps over which the schedule runs."""
    weight_decay: float = 0.0
    temperature: float = 1.0
    """Factor on the initial attention scale 1 / sqrt(dim_head) of the encoder."""
    temperature_learned: bool = True
    spt_scale: float = 1.0
    """Variance scale of the encoder's patch projection; 1 is Flax's default, 2 the seed's."""
    context_dropout: float = 0.0
    """Probability that a set is trained with the null context. The original never did."""
    lr: float = 3e-3
    ema: float = 0.99
    """Decay of the parameters' average, which is what samples are drawn with."""
    image_size: int = 8
    channels: int = 1
    sample_size: int = 6
    """Images in a context; a set has one more."""
    patch_size: int = 2
    hidden: int = 32
    heads: int = 4
    dim_head: int = 8
    """Width of an attention head of the encoder."""
    mlp_ratio: int = 3
    batch_size: int = 8
    """Sets per step, over all replicas."""
    diffusion_steps: int = 250
    data: str = ""
    """An archive of Omniglot (`.zip`), or CIFAR-100's `train` or `train.bin`; by default scikit-learn's digits."""


PAPER = Knobs(
    replicas=8,
    depth=6,
    encoder_depth=6,
    lr=1e-4,
    ema=0.9999,
    image_size=32,
    channels=3,
    hidden=468,
    heads=9,
    dim_head=64,
    batch_size=32,
    horizon=300_000,
)
"""The run that the seed analyses, for CIFAR-100: `--batch_size 32 --sample_size 6 --diffusion_steps 250`, on 8 devices.

It needs `data`, and wasn't trained here. One difference: the original's encoder has width 448 and 12 heads, here those
of the DiT.
"""


OF_TRAINING = (
    "synchronised", "adaln", "accumulation", "optimizer", "replicas", "clip", "warmup", "horizon", "weight_decay",
    "temperature", "temperature_learned", "spt_scale", "context_dropout", "lr", "ema", "batch_size",
)  # fmt: skip
"""Knobs that a trained model's outputs don't depend on any more, once its parameters are given."""


def of_the_model(knobs: Knobs) -> Knobs:
    """`knobs` with the defaults for what concerns training alone: equal for all that compute alike."""
    default = Knobs()
    return replace(knobs, **{name: getattr(default, name) for name in OF_TRAINING})
