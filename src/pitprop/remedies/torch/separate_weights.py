"""Separate weights: softmax weights that are trained by a criterion of their own, never by the loss that they weigh.

Source: seed 0's Solution 2 ("update weights based on separate criterion: maximize diversity, match empirical
distribution"); written anew.
Differences: the seed leaves the criterion open; here it is an argument, and entropy ("diversity") is the default.
Cost: one parameter per loss, and the criterion.
Facts: the weights come detached, so that adding `objective` to the loss trains the weights by it and by nothing else,
with any optimizer. Without a criterion that has an interior optimum they go to a vertex as others do.
Insertion: starts at `initial`; the weighted sum is kept at first.
Does not help: with a criterion that doesn't know what the weights are for; the default ends uniform, that is unweighed.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def diversity(weights: Tensor, losses: Tensor) -> Tensor:
    """`[*batch]`: minus the entropy of `weights` `[*batch, part]`, in nats; least at uniform weights."""
    return torch.special.xlogy(weights, weights).sum(-1)


class SeparateWeights(nn.Module):
    """Weights for `(weights * losses).sum(-1)`; add `objective(losses)` to the loss that is minimised.

    Args:
        initial: `[*batch, part]`, positive; the weights at the start. Normalised here.
        criterion: `criterion(weights, losses) -> [*batch]`, minimised; sees the losses detached.
    """

    def __init__(self, initial: Tensor, criterion: Callable[[Tensor, Tensor], Tensor] = diversity):
        super().__init__()
        self.logits = nn.Parameter(initial.detach().log().clone())
        self.criterion = criterion

    def forward(self, losses: Tensor) -> Tensor:
        """`[*batch, part]` on the simplex, detached; `losses` set the batch only."""
        return self.logits.softmax(-1).detach().expand_as(losses)

    def objective(self, losses: Tensor) -> Tensor:
        """`[*batch]`: the criterion, which trains the weights and nothing else."""
        return self.criterion(self.logits.softmax(-1), losses.detach())
