"""ZClip: clips the gradient's global norm where it is an outlier of its own recent past.

Paper: Kumar et al., ZClip: Adaptive Spike Mitigation for LLM Pre-Training, arXiv 2504.02507 (2025).
Source: written from the formula, z = (g - mean) / std of exponential averages; above the threshold the norm becomes
mean + threshold * std / (z / threshold). bluorion-com/ZClip (only read) is the authors' own.
Differences: the first `warm_up` norms give mean and variance by running sums instead of a list (the same numbers). A
norm that is not finite is passed on and not remembered.
Cost: one norm over all gradients, which waits for the device.
Insertion: acts on gradients only, so what the model computes is kept.
Does not help: against gradients that vanish; against a slow growth, which the averages follow; and little under Adam,
where a constant factor does nothing.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn


class ZClip:
    """Call `clip_gradients` between `backward()` and `step()`.

    Args:
        threshold: z from which a norm is an outlier.
        decay: Of the exponential averages.
        warm_up: Steps that only measure.
        eps: Added to the standard deviation.
    """

    def __init__(self, threshold: float = 2.5, *, decay: float = 0.97, warm_up: int = 25, eps: float = 1e-6):
        self.threshold, self.decay, self.warm_up, self.eps = threshold, decay, warm_up, eps
        self.count, self.mean, self.variance = 0, 0.0, 0.0

    def state_dict(self) -> dict[str, float]:
        """Number of norms seen, their mean, and their variance (in the warm-up the sum of squared deviations)."""
        return {"count": self.count, "mean": self.mean, "variance": self.variance}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Put back what `state_dict` gave."""
        self.count, self.mean, self.variance = int(state["count"]), state["mean"], state["variance"]

    @torch.no_grad()
    def clip_gradients(self, parameters: Iterable[nn.Parameter]) -> float:
        """Clips the gradients of `parameters` in place; returns their global norm as it was before."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            return norm
        target, std = norm, math.sqrt(self.variance)
        z = (norm - self.mean) / (std + self.eps)
        if self.count >= self.warm_up and z > self.threshold:
            target = self.mean + self.threshold * std / (z / self.threshold)
            for gradient in gradients:
                gradient.mul_(target / norm)
        self._remember(target)
        return norm

    def _remember(self, norm: float) -> None:
        before, self.count = self.mean, self.count + 1
        if self.count <= self.warm_up:
            self.mean += (norm - before) / self.count
            self.variance += (norm - before) * (norm - self.mean)
            if self.count == self.warm_up:
                self.variance /= self.warm_up
        else:
            self.mean = self.decay * before + (1 - self.decay) * norm
            self.variance = self.decay * self.variance + (1 - self.decay) * (norm - self.mean) ** 2
