"""Watching a training in jax: everything that a loop needs, as `pitprop.optax`.

`watch` goes around the optimizer, `tap`, `sow` and `attention_fn` into the model, `collect` around the loss, and
`session` around the loop. docs/watch.md has the whole of it.
"""

import random

_state = random.getstate()

from pitprop.watch.flax import attention_fn, from_intermediates, tap_attention  # noqa: E402
from pitprop.watch.jax import session  # noqa: E402
from pitprop.watch.taps import collect, sow, tap  # noqa: E402
from pitprop.watch.transformation import watch  # noqa: E402

random.setstate(_state)  # rich draws a random number when it is imported; a watch must not

__all__ = ["attention_fn", "collect", "from_intermediates", "session", "sow", "tap", "tap_attention", "watch"]
