"""Where learned timestep weights end, and when, from measured losses alone: nothing is trained.

Sum_t w_t L_t is linear in w, so the end is a vertex. Plain descent goes to that of the smallest mean loss (derivation
T1). Adam divides the size of the gradients away, and the original makes it anew for every image, within which the
losses grow a hundredfold: early iterations count about as much as late ones. So where neighbours hardly differ, the end
may be the timestep that is the smallest in most iterations, and the steps have to be taken to know. They are: the
network's expectation (half of its 64 hidden units active, evenly spread as Xavier's bound says, output weights 0 but
for the schedule in the bias) is a handful of scalars, and they are stepped exactly as Adam steps them.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pitprop._errors import PitpropError
from pitprop.cases.timestep_attack.weights import HIDDEN, LR

ACTIVE = HIDDEN // 2
FIRST_SUM = ACTIVE * math.sqrt(6 / (1 + HIDDEN)) / 2
"""Expected sum of the active hidden units at initialisation."""
ARRIVED = 0.9
"""Weight of the vertex at which it has been reached."""


class Vertex(NamedTuple):
    """What is predicted."""

    index: int
    """The timestep that gets everything: the largest weight where the steps end."""
    smallest: int
    """The timestep of the smallest mean loss, where plain descent ends (T1)."""
    collapse: float
    """Iteration at which half of the weight has moved (total variation to the start over 0.5); NaN if never by `limit`,
    and where the start is so near the vertex that less than half is left to move.
    """
    arrival: float
    """Iteration at which `index` has 90 %; NaN if it hasn't by `limit`."""


def predict_vertex(
    losses: Float[np.ndarray, "*iteration timestep"],
    weights: Float[np.ndarray, " timestep"],
    lr: float = LR,
    *,
    factor: float = 500.0,
    per_image: int = 30,
    limit: int = 100_000,
) -> Vertex:
    """The vertex and the iterations of collapse and arrival of the mode `learnable`.

    Args:
        losses: Unweighted losses, measured under any weights: one row that stands for all iterations, or one row per
            iteration of an image (its growth from 0 changes Adam's step a little).
        weights: On the simplex, at the start.
        lr: Of Adam.
        factor: On the losses before the gradient is taken: gamma times the number of timesteps. It matters only where
            gradients get as small as Adam's epsilon.
        per_image: Iterations after which Adam is made anew; with rows per iteration their number is taken.
        limit: Iterations to look ahead.

    Raises:
        PitpropError: Losses that are negative, undefined, or of another length than the weights.
    """
    rows = np.atleast_2d(np.asarray(losses, dtype=np.float64))
    start = np.asarray(weights, dtype=np.float64)
    if rows.shape[-1:] != start.shape or not (rows >= 0).all():
        raise PitpropError(
            f"Losses of shape {np.shape(losses)} and weights of shape {start.shape} predict nothing",
            means="every timestep needs one loss, 0 or more, and one weight.",
        )
    per_image = len(rows) if np.ndim(losses) > 1 else per_image
    start = start / start.sum()
    weights = before = start
    bias, out, hidden = np.log(start), np.zeros_like(start), 0.0
    collapse, arrivals = math.nan, np.full_like(start, math.nan)
    for iteration in range(limit):
        if iteration % per_image == 0:
            if weights.max() > ARRIVED and weights.max() > before[weights.argmax()]:  # there, and not on the way back
                break
            before, logit_step, hidden_step = weights, _Adam(lr), _Adam(lr)
        loss = factor * rows[iteration % len(rows)]
        gradient = weights * (loss - weights @ loss)
        step = logit_step(gradient)
        # Units of the first layer differ in size only, so all of them take the same step; its weight and bias both do.
        hidden += 2 * float(hidden_step(gradient @ out))
        bias, out = bias + step, out + step
        logits = bias + out * (FIRST_SUM + ACTIVE * hidden)
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        if math.isnan(collapse) and np.abs(weights - start).sum() / 2 > 0.5:
            collapse = float(iteration)
        arrivals[(weights > ARRIVED) & np.isnan(arrivals)] = iteration
    index = int(weights.argmax())
    return Vertex(index, int(rows.mean(0).argmin()), collapse, float(arrivals[index]))


class _Adam:
    """Steps for gradients that come one after another, as `torch.optim.Adam` takes them."""

    def __init__(self, lr: float):
        self.lr, self.count, self.mean, self.square = lr, 0, 0.0, 0.0

    def __call__(self, gradient):
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.mean / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        return -self.lr * mean / (np.sqrt(square) + 1e-8)
