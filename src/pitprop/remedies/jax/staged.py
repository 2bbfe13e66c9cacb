"""Staged activation: the share of a new path as a function of the step, which is given as an argument.

Source: seed 2's stage flags (`SCI-ARC`, MIT) rebuilt without their defects; no code copied. The twin of a torch module.
Differences: a pure function of the step, so a checkpoint that holds the step holds the stage, and nothing is compiled
again when it changes.
Cost: one multiplication and addition; both paths are computed in every step.
Facts: at strength 0 the new path's parameters have a gradient of exactly zero (weight decay still acts on them).
Insertion: keeps the function exactly while `step <= start`, and with `ramp=0` while `step < start`.
Does not help: where the path starts as nothing by itself (a zero-initialised projection), which needs no stage.
"""

import jax
import jax.numpy as jnp


def strength(step: jax.Array | int, *, start: int, ramp: int = 0) -> jax.Array:
    """Share of the new path: clip((step - start) / ramp, 0, 1), or step >= start where `ramp` is 0."""
    since = jnp.asarray(step, jnp.float32) - start
    return (since >= 0).astype(jnp.float32) if ramp == 0 else jnp.clip(since / ramp, 0.0, 1.0)


def staged(old: jax.Array, new: jax.Array, share: jax.Array | float) -> jax.Array:
    """`old` at share 0, `new` at 1, and the line between.

    Args:
        old: What was there before, of any shape; the stream itself for a residual branch that is new.
        new: What comes in, of the same shape.
        share: From `strength`.
    """
    return jnp.where(share == 0, old, jnp.where(share == 1, new, old + share * (new - old)))
