"""Remedies: leaf modules and functions that can be copied away alone, and the list of them.

This file imports no framework; `where` is the import path, resolved by whoever applies the remedy.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One remedy: what it is, and where it lies."""

    name: str
    """Name by which rules, reports and the command line call it."""
    kind: Literal["module", "function", "optimizer"]
    """What `where` names: a module class, a function of tensors or modules, or something that acts around the
    optimizer.
    """
    framework: Literal["torch", "jax"]
    """Framework that the file imports, and nothing else (with jax, Flax and optax count as it)."""
    summary: str
    """One sentence: what it does to the numbers."""
    where: tuple[str, ...]
    """Import paths `package.module:attribute`, the one to try first leading."""


REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        name="adaln-zero",
        kind="module",
        framework="jax",
        summary="modulates a branch by a condition and starts it as exactly nothing",
        where=("pitprop.remedies.jax.adaln_zero:AdaLNZero",),
    ),
    Remedy(
        name="adaln-zero",
        kind="module",
        framework="torch",
        summary="modulates a branch by a condition and starts it as exactly nothing",
        where=("pitprop.remedies.torch.adaln_zero:AdaLNZero",),
    ),
    Remedy(
        name="agc",
        kind="optimizer",
        framework="jax",
        summary="holds each unit's gradient to a share of the norm of its weights",
        where=("pitprop.remedies.jax.agc:agc",),
    ),
    Remedy(
        name="agc",
        kind="optimizer",
        framework="torch",
        summary="holds each unit's gradient to a share of the norm of its weights",
        where=("pitprop.remedies.torch.agc:agc",),
    ),
    Remedy(
        name="clamped-delta",
        kind="module",
        framework="torch",
        summary="bounds the norm of the weight change that an adapter or hypernetwork proposes",
        where=("pitprop.remedies.torch.clamped_delta:ClampedDelta",),
    ),
    Remedy(
        name="ema",
        kind="optimizer",
        framework="torch",
        summary="averages the weights in a copy that shares the model's buffers and mode",
        where=("pitprop.remedies.torch.ema:EMA",),
    ),
    Remedy(
        name="film",
        kind="module",
        framework="torch",
        summary="scales and shifts channels by a condition, starting as the identity",
        where=("pitprop.remedies.torch.film:FiLM",),
    ),
    Remedy(
        name="gated-attention",
        kind="module",
        framework="jax",
        summary="multiplies the attention output by sigmoid(x W) before the output projection",
        where=(
            "pitprop.remedies.jax.gated_attention:ElementwiseGate",
            "pitprop.remedies.jax.gated_attention:HeadwiseGate",
        ),
    ),
    Remedy(
        name="gated-attention",
        kind="module",
        framework="torch",
        summary="multiplies the attention output by sigmoid(x W) before the output projection",
        where=(
            "pitprop.remedies.torch.gated_attention:ElementwiseGate",
            "pitprop.remedies.torch.gated_attention:HeadwiseGate",
            "pitprop.remedies.torch.gated_attention:PooledGate",
        ),
    ),
    Remedy(
        name="global-norm-clip",
        kind="optimizer",
        framework="jax",
        summary="shrinks all gradients together where their norm is above a bound",
        where=("pitprop.remedies.jax.global_norm_clip:global_norm_clip",),
    ),
    Remedy(
        name="gradient-stabiliser",
        kind="optimizer",
        framework="torch",
        summary="clips gradients by global norm and by value before the optimizer's step",
        where=("pitprop.remedies.torch.gradient_stabiliser:GradientStabiliser",),
    ),
    Remedy(
        name="importance-weights",
        kind="function",
        framework="torch",
        summary="weighs every loss by its share of all losses",
        where=("pitprop.remedies.torch.importance_weights:importance_weights",),
    ),
    Remedy(
        name="kl-weights",
        kind="function",
        framework="torch",
        summary="weighs losses by a prior times exp(-L / tau): learned weights that a KL term keeps inside",
        where=("pitprop.remedies.torch.kl_weights:kl_weights",),
    ),
    Remedy(
        name="layer-scale",
        kind="module",
        framework="jax",
        summary="multiplies a residual branch by a learned gain per channel that starts small",
        where=("pitprop.remedies.jax.layer_scale:LayerScale",),
    ),
    Remedy(
        name="layer-scale",
        kind="module",
        framework="torch",
        summary="multiplies a residual branch by a learned gain per channel that starts small",
        where=("pitprop.remedies.torch.layer_scale:LayerScale",),
    ),
    Remedy(
        name="mean-pool",
        kind="module",
        framework="torch",
        summary="pools tokens by their mean, so that the result doesn't grow with their number",
        where=("pitprop.remedies.torch.mean_pool:MeanPool",),
    ),
    Remedy(
        name="min-snr-weights",
        kind="function",
        framework="torch",
        summary="weighs the losses of diffusion timesteps by their clamped signal-to-noise ratio, a constant",
        where=("pitprop.remedies.torch.min_snr_weights:min_snr_weights",),
    ),
    Remedy(
        name="norm-match",
        kind="function",
        framework="jax",
        summary="gives a branch the norm of the stream that it is added to",
        where=("pitprop.remedies.jax.norm_match:norm_match",),
    ),
    Remedy(
        name="norm-match",
        kind="function",
        framework="torch",
        summary="gives a branch the norm of the stream that it is added to",
        where=("pitprop.remedies.torch.norm_match:norm_match",),
    ),
    Remedy(
        name="null-embedding",
        kind="module",
        framework="jax",
        summary="replaces the condition of some samples by a learned vector",
        where=("pitprop.remedies.jax.null_embedding:NullEmbedding",),
    ),
    Remedy(
        name="null-embedding",
        kind="module",
        framework="torch",
        summary="replaces the condition of some samples by a learned vector",
        where=("pitprop.remedies.torch.null_embedding:NullEmbedding",),
    ),
    Remedy(
        name="prior-bias",
        kind="function",
        framework="torch",
        summary="starts the output layer at the classes' frequencies",
        where=("pitprop.remedies.torch.prior_bias:prior_bias",),
    ),
    Remedy(
        name="qk-norm",
        kind="module",
        framework="jax",
        summary="normalises queries and keys per head, so that attention logits are bounded",
        where=("pitprop.remedies.jax.qk_norm:QKNorm",),
    ),
    Remedy(
        name="qk-norm",
        kind="module",
        framework="torch",
        summary="normalises queries and keys per head, so that attention logits are bounded",
        where=("pitprop.remedies.torch.qk_norm:QKNorm",),
    ),
    Remedy(
        name="scaled-residual",
        kind="module",
        framework="torch",
        summary="adds a branch to its stream at a fixed or learned fraction",
        where=("pitprop.remedies.torch.scaled_residual:ScaledResidual",),
    ),
    Remedy(
        name="separate-weights",
        kind="module",
        framework="torch",
        summary="trains loss weights by a criterion of their own, never by the loss that they weigh",
        where=("pitprop.remedies.torch.separate_weights:SeparateWeights",),
    ),
    Remedy(
        name="sigma-reparam",
        kind="module",
        framework="jax",
        summary="makes the spectral norm of a linear layer one learned number",
        where=("pitprop.remedies.jax.sigma_reparam:SigmaReparamLinear",),
    ),
    Remedy(
        name="sigma-reparam",
        kind="module",
        framework="torch",
        summary="makes the spectral norm of a linear layer one learned number",
        where=("pitprop.remedies.torch.sigma_reparam:SigmaReparamLinear",),
    ),
    Remedy(
        name="stablemax-cross-entropy",
        kind="function",
        framework="torch",
        summary="cross-entropy with a rational function in the place of the exponential",
        where=("pitprop.remedies.torch.stablemax_cross_entropy:stablemax_cross_entropy",),
    ),
    Remedy(
        name="staged",
        kind="function",
        framework="jax",
        summary="brings a new path in at a chosen step, at once or by a ramp",
        where=(
            "pitprop.remedies.jax.staged:staged",
            "pitprop.remedies.jax.staged:strength",
        ),
    ),
    Remedy(
        name="staged",
        kind="module",
        framework="torch",
        summary="brings a new module in at a chosen step, at once or by a ramp, with the step in the state dict",
        where=("pitprop.remedies.torch.staged:Staged",),
    ),
    Remedy(
        name="tilted-weights",
        kind="function",
        framework="torch",
        summary="weighs losses by a prior times exp(+L / tau), so that large losses count more",
        where=("pitprop.remedies.torch.tilted_weights:tilted_weights",),
    ),
    Remedy(
        name="uncertainty-weights",
        kind="module",
        framework="torch",
        summary="learns one log variance per loss, so that all losses contribute alike",
        where=("pitprop.remedies.torch.uncertainty_weights:UncertaintyWeights",),
    ),
    Remedy(
        name="unit-rms",
        kind="module",
        framework="torch",
        summary="scales a pre-activation to unit RMS, so that a tanh or sigmoid behind it can't saturate",
        where=("pitprop.remedies.torch.unit_rms:UnitRMS",),
    ),
    Remedy(
        name="warm-up-cosine",
        kind="optimizer",
        framework="jax",
        summary="raises the learning rate linearly, lets it fall by a cosine, and clips the global norm",
        where=("pitprop.remedies.jax.warm_up_cosine:warm_up_cosine",),
    ),
    Remedy(
        name="warm-up-cosine",
        kind="optimizer",
        framework="torch",
        summary="raises the learning rate linearly and lets it fall by a cosine",
        where=("pitprop.remedies.torch.warm_up_cosine:warm_up_cosine",),
    ),
    Remedy(
        name="zclip",
        kind="optimizer",
        framework="jax",
        summary="clips the gradient's norm where it is an outlier of its recent past",
        where=("pitprop.remedies.jax.zclip:zclip",),
    ),
    Remedy(
        name="zclip",
        kind="optimizer",
        framework="torch",
        summary="clips the gradient's norm where it is an outlier of its recent past",
        where=("pitprop.remedies.torch.zclip:ZClip",),
    ),
    Remedy(
        name="zero-init-projection",
        kind="function",
        framework="torch",
        summary="starts a new residual branch as exactly nothing by zeroing its last projection",
        where=("pitprop.remedies.torch.zero_init_projection:zero_init_projection",),
    ),
)
