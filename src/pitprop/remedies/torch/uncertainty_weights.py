"""Uncertainty weights: one learned log variance per loss, sum_i exp(-s_i) L_i + s_i.

Paper: Kendall, Gal, Cipolla, Multi-task learning using uncertainty to weigh losses, arXiv 1705.07115 (2017).
Source: written from the formula; no code copied.
Differences: the two gradients are kept apart: the weights come detached, and `objective` trains s alone. Their sum has
the gradients of the paper's one loss. The paper's factors of 1/2 are left out.
Cost: one parameter per loss.
Facts: the optimum is interior, exp(-s_i) = 1 / L_i: all contributions are 1. Not on the simplex: divide by the sum for
shares; then the smallest loss has the most.
Insertion: with s = 0 every weight is 1, so the plain sum of losses is kept at first.
Does not help: whoever wants the large losses to count more, and losses that reach 0 (the weight has no bound). Losses
far from 1 take ln(L) / lr steps to get there under Adam: hand over losses relative to their mean.
"""

import torch
from torch import Tensor, nn


def uncertainty_objective(log_variance: Tensor, losses: Tensor) -> Tensor:
    """`[*batch]`: sum_i exp(-s_i) L_i + s_i of `[*batch, part]`, which trains s and nothing else."""
    return ((-log_variance).exp() * losses.detach() + log_variance).sum(-1)


class UncertaintyWeights(nn.Module):
    """Weights for `(weights * losses).sum(-1)`; add `objective(losses)` to the loss that is minimised.

    Args:
        shape: Of the losses, `(*batch, part)`; each entry has its own `log_variance`.
    """

    def __init__(self, *shape: int):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(shape))

    def forward(self, losses: Tensor) -> Tensor:
        """`[*batch, part]`, detached and positive, of any sum; `losses` set the batch only."""
        return (-self.log_variance).exp().detach().expand_as(losses)

    def objective(self, losses: Tensor) -> Tensor:
        """`[*batch]`: see `uncertainty_objective`."""
        return uncertainty_objective(self.log_variance, losses)
