"""Gradient clipping by norm and by value, as seed 4's `GradientStabilizer` does it.

Paper: Pascanu et al., On the difficulty of training recurrent neural networks, arXiv 1211.5063 (2013).
Source: the seed's snippet (`clip_grad_norm_(parameters, max_norm=1.0)` and "clip by value as well"), on PyTorch's own
functions.
Differences: the norm before clipping is returned, because it is what one wants to see.
Cost: one pass over the gradients.
Insertion: acts on gradients only, so what the model computes is kept.
Does not help: with Adam against gradients that are merely large or small (Adam is invariant to a constant factor), and
never against gradients that vanish: clipping only shrinks.
"""

from collections.abc import Iterable

from torch import Tensor, nn


class GradientStabiliser:
    """Clips the global norm, then each value.

    Args:
        max_norm: Largest global 2-norm that is left alone.
        max_value: Largest absolute value of one entry, after the norm was clipped.
    """

    def __init__(self, *, max_norm: float = 1.0, max_value: float = 0.5):
        self.max_norm = max_norm
        self.max_value = max_value

    def clip_gradients(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Clips the gradients of `parameters` in place; returns their global norm as it was before."""
        parameters = list(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.max_norm)
        nn.utils.clip_grad_value_(parameters, self.max_value)
        return norm
