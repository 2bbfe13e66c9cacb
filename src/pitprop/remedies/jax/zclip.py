"""ZClip: clips the gradient's global norm where it is an outlier of its own recent past.

Paper: Kumar et al., ZClip: Adaptive Spike Mitigation for LLM Pre-Training, arXiv 2504.02507 (2025).
Source: written from the formula, z = (g - mean) / std of exponential averages; above the threshold the norm becomes
mean + threshold * std / (z / threshold). bluorion-com/ZClip (only read) is the authors' own.
Differences: the first `warm_up` norms give mean and variance by running sums instead of a list (the same numbers), for
the state has a fixed shape. A norm that is not finite is passed on and not remembered.
Cost: one norm over all gradients, four numbers of state.
Insertion: acts on gradients only, so what the model computes is kept.
Does not help: against gradients that vanish; against a slow growth, which the averages follow; and little under Adam,
where a constant factor does nothing.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class ZClipState(NamedTuple):
    """Norms seen so far: their number, mean, and variance (in the warm-up the sum of squared deviations)."""

    count: jax.Array
    mean: jax.Array
    variance: jax.Array


def zclip(
    threshold: float = 2.5, *, decay: float = 0.97, warm_up: int = 25, eps: float = 1e-6
) -> optax.GradientTransformation:
    """A gradient transformation for the front of a chain.

    Args:
        threshold: z from which a norm is an outlier.
        decay: Of the exponential averages.
        warm_up: Steps that only measure.
        eps: Added to the standard deviation.
    """

    def init(params: Any) -> ZClipState:
        return ZClipState(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros(()))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        norm = optax.tree.norm(updates)
        count, mean, variance = state
        std = jnp.sqrt(variance)
        z = (norm - mean) / (std + eps)
        outlier = (count >= warm_up) & (z > threshold) & jnp.isfinite(norm)
        target = jnp.where(outlier, mean + threshold * std / jnp.where(outlier, z / threshold, 1.0), norm)
        # Welford's sums until the warm-up ends, averages from there on.
        number = count + 1
        warm_mean = mean + (target - mean) / number
        warm_sum = variance + (target - mean) * (target - warm_mean)
        ema_mean = decay * mean + (1 - decay) * target
        ema_variance = decay * variance + (1 - decay) * (target - ema_mean) ** 2
        warming = count < warm_up
        new_mean = jnp.where(warming, warm_mean, ema_mean)
        new_variance = jnp.where(warming, jnp.where(number == warm_up, warm_sum / warm_up, warm_sum), ema_variance)
        new = ZClipState(number, new_mean, new_variance)
        keep = jnp.isfinite(norm)
        state = jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, state)
        factor = jnp.where(outlier, target / jnp.where(outlier, norm, 1.0), 1.0)
        return jax.tree.map(lambda g: (g * factor).astype(g.dtype), updates), state

    return optax.GradientTransformation(init, update)
