"""Stablemax cross-entropy: softmax with a piecewise rational function in the place of the exponential.

Paper: Prieto et al., Grokking at the Edge of Numerical Stability, arXiv 2501.04697 (2025): s(x) = x + 1 for x >= 0,
1 / (1 - x) below; p = s / sum s.
Source: written from the formula; the code of TRM (MIT) was read, none copied.
Differences: none in the function. Several public functions of this name are others: check `s(0) = 1, s(1) = 2,
s(-1) = 1/2`.
Cost: that of cross-entropy, in float64 by default, as the paper and TRM compute it.
Facts: probabilities fall with 1 / distance, not exponentially, so that float32 never rounds one to 1; the gradient is
smaller for the same margin, and learning is slower.
Insertion: changes the function: the same logits mean other probabilities.
Does not help: against a class that takes all predictions; it weighs the classes as softmax does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def stablemax_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Negative log-probability of the target under stablemax, in nats.

    Args:
        logits: `[*batch, class]`.
        target: `[*batch]`, class numbers; entries equal to `ignore_index` count for nothing.
        ignore_index: As in `torch.nn.functional.cross_entropy`.
        reduction: "mean" over what counts (NaN where nothing does), "sum", or "none" (`[*batch]`, 0 where ignored).
        dtype: Type to compute in; the result has the logits' type.
    """
    log_p = log_stablemax(logits, dtype=dtype)
    losses = F.nll_loss(log_p.flatten(0, -2), target.flatten(), ignore_index=ignore_index, reduction=reduction)
    return (losses.view(target.shape) if reduction == "none" else losses).to(logits.dtype)


def log_stablemax(logits: Tensor, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Log-probabilities of a network that is trained so, `[*batch, class]` of `dtype`.

    What expects logits of a softmax (`class_loss_ratio`) must be given these: their softmax is the stablemax.
    """
    x = logits.to(dtype)
    # The branch that isn't taken must not divide by zero: its gradient would be NaN behind the `where`.
    log_s = torch.where(x >= 0, torch.log1p(x.clamp(min=0)), -torch.log1p(-x.clamp(max=0)))
    return log_s - log_s.logsumexp(-1, keepdim=True)
