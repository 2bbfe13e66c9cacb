"""Adaptive gradient clipping: each unit's gradient is held to a share of the unit's own weights.

Paper: Brock et al., High-Performance Large-Scale Image Recognition Without Normalization, arXiv 2102.06171 (2021).
Source: `optax.adaptive_grad_clip`, with the paper's numbers as defaults. The twin of `remedies/torch/agc.py`.
Differences: none; a unit is a column of a Flax kernel (one output), a filter of a convolution, or a whole vector.
Cost: one pass over weights and gradients.
Insertion: acts on gradients only, so what the model computes is kept.
Does not help: columns that start at zero are held to c * 1e-3 each step, which starves them under SGD (leave them out
by `optax.masked`); and Adam divides a constant factor out again.
"""

import optax


def agc(clipping: float = 0.01, *, eps: float = 1e-3) -> optax.GradientTransformation:
    """A gradient transformation for the front of a chain; its `update` needs the parameters.

    Args:
        clipping: Largest norm of a unit's gradient relative to that of its weights.
        eps: Norm that a unit's weights count as having at least.
    """
    return optax.adaptive_grad_clip(clipping, eps)
