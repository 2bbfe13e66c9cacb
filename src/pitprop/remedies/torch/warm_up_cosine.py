"""A learning rate that rises linearly and falls by a cosine, as a scheduler for any optimizer.

Paper: Goyal et al., Accurate, Large Minibatch SGD, arXiv 1706.02677 (2017) for the warm-up; Loshchilov and Hutter,
SGDR, arXiv 1608.03983 (2017) for the cosine.
Source: written from the formulae; optax's `warmup_cosine_decay_schedule` gives the same numbers.
Differences: the first step has rate 0, as in optax.
Cost: nothing.
Insertion: changes how parameters move, not what the model computes.
Does not help: a warm-up that is over has done its work: it doesn't cure a model that is unstable at its full rate.
"""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_up_cosine(optimizer: Optimizer, num_steps: int, *, warm_up: int, end: float = 0.0) -> LambdaLR:
    """A scheduler whose factor of each group's learning rate is 0 at first, 1 after `warm_up` steps, `end` at last.

    Args:
        optimizer: Its learning rates are the peaks.
        num_steps: Steps in all; the rate stays at its end after them.
        warm_up: Steps over which it rises.
        end: Last rate relative to the peak, 0 to 1.
    """

    def factor(step: int) -> float:
        if step < warm_up:
            return step / warm_up
        done = min((step - warm_up) / (num_steps - warm_up), 1.0)
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
