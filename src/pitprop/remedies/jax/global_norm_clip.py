"""Global-norm clipping: all gradients together are held to one norm, and keep their direction.

Paper: Pascanu et al., On the difficulty of training recurrent neural networks, arXiv 1211.5063 (2013).
Source: `optax.clip_by_global_norm`. The torch side has it in `gradient_stabiliser`, which clips by value as well.
Differences: none. torch adds 1e-6 to the norm that it divides by, and optax doesn't.
Cost: one norm over all gradients, no state.
Insertion: acts on gradients only, so what the model computes is kept.
Does not help: against gradients that vanish, for it only shrinks; with Adam against gradients that are large all the
time (a constant factor does nothing); and a NaN in one gradient is one in all of them after it.
"""

import optax


def global_norm_clip(max_norm: float = 1.0) -> optax.GradientTransformation:
    """A gradient transformation for the front of a chain.

    Args:
        max_norm: Largest global 2-norm that is left alone.
    """
    return optax.clip_by_global_norm(max_norm)
