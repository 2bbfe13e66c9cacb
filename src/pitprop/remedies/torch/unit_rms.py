"""Parameter-free RMS normalisation: put before a tanh or sigmoid, it keeps the units out of saturation.

Paper: Zhang and Sennrich, Root Mean Square Layer Normalization, arXiv 1910.07467 (2019).
Source: written from the formula `x / sqrt(mean(x**2) + eps)`; `torch.nn.functional.rms_norm` computes it.
Differences: no gain, because a gain could grow the saturation back.
Cost: one pass over the values, no parameter.
Facts: the result has RMS 1 for any scale of the input, so at most a share 1/t**2 of the units can lie beyond t
(Chebyshev); a tanh with |y| > .999 needs |x| > 3.8, hence at most 7 % of the units can be saturated, in any state of
the weights.
Insertion: changes the function, unless its input has RMS 1 already; that is what it is for.
Does not help: it removes the overall scale of the vector; where that scale is the message, pool by the mean instead
(mean_pool).
"""

import torch.nn.functional as F
from torch import Tensor, nn


class UnitRMS(nn.Module):
    """Scales the last axis to unit root mean square, then applies `inner`.

    Args:
        inner: What follows, so that a saturating module can be replaced in place: `UnitRMS(nn.Tanh())`. Default:
        nothing. eps: Added to the mean square, relative to a value of 1.

    Shape: `[*batch, width]` in; what `inner` makes of it out.
    """

    def __init__(self, inner: nn.Module | None = None, *, eps: float = 1e-6):
        super().__init__()
        self.inner = nn.Identity() if inner is None else inner
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(F.rms_norm(x, x.shape[-1:], eps=self.eps))
