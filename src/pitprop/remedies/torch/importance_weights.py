"""Importance weights: every loss is weighed by its share of all losses, w = L / sum L.

Source: seed 0's Solution 4 ("target_weights = importance / importance.sum()"); written anew.
Differences: the seed fits a network to these weights by squared error; here they are the weights. Seed 0 wants them for
five timesteps; here for any number of losses.
Cost: a sum.
Facts: the gradient of sum_i w_i L_i is then that of |L|_2^2 / 2 divided by |L|_1: the worst loss is followed most, and
no part is ever lost. Any factor on all losses drops out.
Insertion: changes the objective from the first step on.
Does not help: where a loss is large because it can't be lowered (noise, another unit): that one then takes the weight.
"""

import torch
from torch import Tensor


def importance_weights(losses: Tensor) -> Tensor:
    """Weights for `(weights * losses).sum(-1)`.

    Args:
        losses: `[*batch, part]`, unweighted, 0 or more.

    Returns:
        `[*batch, part]` on the simplex, detached; uniform where all losses are 0, NaN where one is negative.
    """
    values = losses.detach()
    total = values.sum(-1, keepdim=True)
    weights = torch.where(total == 0, torch.ones_like(values) / values.shape[-1], values / total)
    return weights.masked_fill((values < 0).any(-1, keepdim=True), torch.nan)
