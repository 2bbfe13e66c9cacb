"""Tilted weights: the exact maximiser of sum_i w_i L_i - tau KL(w || p), w = p exp(+L / tau) / Z: large losses first.

Paper: Li et al., Tilted empirical risk minimization, arXiv 2007.01162 (2020); with the last weights as prior and tau =
1 / eta it is the ascent of Sagawa et al., Distributionally robust neural networks for group shifts, arXiv 1911.08731.
Source: written from the formulae; no code copied.
Differences: tau is set by the losses themselves, tau = (max L - min L) / ln(kappa), so that w / p never differs by more
than a factor of kappa between two parts, whatever the unit of the losses.
Cost: a softmax.
Facts: with constant tau, sum_i w_i grad L_i is the gradient of tau log sum_i p_i exp(L_i / tau), a smooth maximum,
hence detached.
Insertion: changes the objective from the first step on; kappa = 1 gives the prior.
Does not help: where a loss is large because it can't be lowered (noise): that one then takes the weight. With the last
weights as prior, step after step, it runs to the vertex at the largest loss, unless that one falls.
"""

import math

import torch
from torch import Tensor


def tilted_weights(
    losses: Tensor, *, prior: Tensor | None = None, kappa: float = 10.0, tau: float | None = None
) -> Tensor:
    """Weights for `(weights * losses).sum(-1)`.

    Args:
        losses: `[*batch, part]`, unweighted.
        prior: `[part]` or `[*batch, part]`, positive; uniform by default. Normalised here.
        kappa: Largest ratio that the losses may bring about between two parts; 1 or more.
        tau: Temperature in units of the losses, in place of the one that `kappa` gives.

    Returns:
        `[*batch, part]` on the simplex, detached; the prior where all losses are equal.
    """
    values = losses.detach()
    base = torch.zeros_like(values) if prior is None else prior.detach().to(values).log().expand_as(values)
    below = values - values.amax(-1, keepdim=True)
    if tau is None:
        spread = -below.amin(-1, keepdim=True)
        below, tau = torch.where(spread == 0, spread, below / spread), 1 / math.log(kappa) if kappa > 1 else math.inf
    return (base + below / tau).softmax(-1)
