"""ClipGradient: bound the gradient just before each optimizer step."""

from dataclasses import dataclass
from typing import Any

import torch

from pitprop.trials.interventions._pytree import wrap
from pitprop.trials.interventions._targets import Applied, is_jax, optimizers_of


@dataclass(frozen=True)
class ClipGradient:
    """Before each optimizer step, the gradient's norm is clipped to `max_norm`, then each element to `max_value`.

    It counts as having acted where it changed a gradient.
    """

    max_norm: float
    max_value: float | None = None

    def describe(self) -> str:
        by_value = "" if self.max_value is None else f", then each element to +-{self.max_value:g}"
        return f"gradient norm clipped to {self.max_norm:g}{by_value}"

    def blames(self) -> str:
        return "large gradients"

    def apply(self, training: Any) -> Applied:
        if is_jax(training):
            return self._apply_to_pytree(training)
        optimizers = optimizers_of(training)
        applied = Applied(tuple(optimizers), conditional=True)
        for name, optimizer in optimizers.items():

            def clip(optimizer, _args, _kwargs, name=name):
                parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
                clips = not norm + 1e-6 <= self.max_norm  # as torch decides; a NaN norm clips too
                if self.max_value is not None:
                    clips = clips or any(bool((p.grad.abs() > self.max_value).any()) for p in parameters)
                    torch.nn.utils.clip_grad_value_(parameters, self.max_value)
                applied.calls[name] += clips

            optimizer.register_step_pre_hook(clip)
        return applied

    def _apply_to_pytree(self, training: Any) -> Applied:
        import jax
        import jax.numpy as jnp

        applied, bound = Applied(("tx",), conditional=True), self.max_value

        def count(clips: Any) -> None:
            applied.calls["tx"] += bool(clips)

        def clip(gradients: Any) -> Any:
            leaves = jax.tree.leaves(gradients)
            norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves))
            clips = ~(norm + 1e-6 <= self.max_norm)  # as torch decides; a NaN norm clips too
            gradients = jax.tree.map(
                lambda g: jnp.where(clips, g * (self.max_norm / (norm + 1e-6)).astype(g.dtype), g), gradients
            )
            if bound is not None:
                largest = jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(gradients)]).max()
                clips = clips | (largest > bound)
                gradients = jax.tree.map(lambda g, bound=bound: jnp.clip(g, -bound, bound), gradients)
            jax.debug.callback(count, clips)
            return gradients

        return wrap(training, applied, before=clip)
