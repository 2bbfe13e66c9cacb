"""AdamW with a linear warm-up, a cosine decay and a clipped global norm, assembled from optax's own parts.

Paper: Goyal et al., Accurate, Large Minibatch SGD, arXiv 1706.02677 (2017) for the warm-up; Loshchilov and Hutter,
SGDR, arXiv 1608.03983 (2017) for the cosine.
Source: `optax.warmup_cosine_decay_schedule`, `optax.clip_by_global_norm` and `optax.adamw`.
Differences: none; the value of this file is that the four are in their right order and count the same steps.
Cost: nothing beside AdamW and one norm.
Insertion: changes how parameters move, not what the model computes.
Does not help: a warm-up that is over has done its work: it doesn't cure a model that is unstable at its full rate.
Inside of `optax.MultiSteps` the schedule counts updates, around it every micro-step.
"""

import optax


def warm_up_cosine(
    peak: float,
    num_steps: int,
    *,
    warm_up: int,
    end: float = 0.0,
    max_norm: float | None = 1.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """The whole transformation.

    Args:
        peak: Learning rate at the end of the warm-up.
        num_steps: Updates in all; the rate stays at `end` after them.
        warm_up: Updates over which it rises from 0.
        end: Learning rate at the end.
        max_norm: Largest global norm of a gradient; None for no clipping.
        weight_decay: Of AdamW, multiplied by the rate.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warm_up, num_steps, end)
    adamw = optax.adamw(schedule, weight_decay=weight_decay)
    return adamw if max_norm is None else optax.chain(optax.clip_by_global_norm(max_norm), adamw)
