"""KL-regularised weights: the exact minimiser of sum_i w_i L_i + tau KL(w || p), w = p exp(-L / tau) / Z.

Source: textbook (Gibbs' variational principle); derivation T2 of this project; no code copied.
Differences: tau is set by the losses themselves, tau = (max L - min L) / ln(kappa), so that w / p never differs by more
than a factor of kappa between two parts, whatever the unit of the losses.
Cost: a softmax.
Facts: what descent on learned weights does without the second term is the limit kappa = infinity: the vertex at the
smallest loss. The gradient by the losses is w itself (envelope theorem, for constant tau), hence detached.
Insertion: changes the objective from the first step on; kappa = 1 gives the prior.
Does not help: whoever wants the large losses to count more: it still prefers the small ones (see tilted_weights).
"""

import math

import torch
from torch import Tensor


def kl_weights(losses: Tensor, *, prior: Tensor | None = None, kappa: float = 10.0, tau: float | None = None) -> Tensor:
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
    above = values - values.amin(-1, keepdim=True)
    if tau is None:
        spread = above.amax(-1, keepdim=True)
        above, tau = torch.where(spread == 0, spread, above / spread), 1 / math.log(kappa) if kappa > 1 else math.inf
    return (base - above / tau).softmax(-1)
