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
    """Framework that the file imports, and the only thing it imports."""
    summary: str
    """One sentence: what it does to the numbers."""
    where: tuple[str, ...]
    """Import paths `package.module:attribute`, the one to try first leading."""


REMEDIES: tuple[Remedy, ...] = (
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
        framework="torch",
        summary="multiplies the attention output by sigmoid(x W) before the output projection",
        where=(
            "pitprop.remedies.torch.gated_attention:ElementwiseGate",
            "pitprop.remedies.torch.gated_attention:HeadwiseGate",
            "pitprop.remedies.torch.gated_attention:PooledGate",
        ),
    ),
    Remedy(
        name="gradient-stabiliser",
        kind="optimizer",
        framework="torch",
        summary="clips gradients by global norm and by value before the optimizer's step",
        where=("pitprop.remedies.torch.gradient_stabiliser:GradientStabiliser",),
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
        name="norm-match",
        kind="function",
        framework="torch",
        summary="gives a branch the norm of the stream that it is added to",
        where=("pitprop.remedies.torch.norm_match:norm_match",),
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
        framework="torch",
        summary="normalises queries and keys per head, so that attention logits are bounded",
        where=("pitprop.remedies.torch.qk_norm:QKNorm",),
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
        kind="module",
        framework="torch",
        summary="brings a new module in at a chosen step, at once or by a ramp, with the step in the state dict",
        where=("pitprop.remedies.torch.staged:Staged",),
    ),
    Remedy(
        name="unit-rms",
        kind="module",
        framework="torch",
        summary="scales a pre-activation to unit RMS, so that a tanh or sigmoid behind it can't saturate",
        where=("pitprop.remedies.torch.unit_rms:UnitRMS",),
    ),
    Remedy(
        name="zero-init-projection",
        kind="function",
        framework="torch",
        summary="starts a new residual branch as exactly nothing by zeroing its last projection",
        where=("pitprop.remedies.torch.zero_init_projection:zero_init_projection",),
    ),
)
