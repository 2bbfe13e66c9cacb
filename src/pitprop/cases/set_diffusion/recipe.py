"""The recipe: what is trained, on what, and which number says whether the context is used.

The metric is `context_use` on held-out images: the share of the loss that a set's own context saves against the context
of a set of another class. The loss can't serve, as a model that ignores its context has a fine one; nor can the
context's mean or a gradient's norm, which move whether or not the context acts. A model that ignores it has 0;
the margin, 0.01, is a hundredth of the loss.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
from jaxtyping import Float
from numpy import ndarray

from pitprop.cases._folder import folder
from pitprop.cases.set_diffusion import other_data, training
from pitprop.cases.set_diffusion.data import sets
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import evaluator
from pitprop.trials.jax import JaxTraining
from pitprop.trials.recipe import Recipe


def batches(seed: int, knobs: Knobs, cursor: int) -> Iterator[Float[ndarray, "replica set image channel height width"]]:
    """Sets of the training classes, divided among the replicas."""
    found = sets(
        other_data.images(knobs).train, seed, cursor, num_sets=knobs.batch_size, set_size=knobs.sample_size + 1
    )
    for batch in found:
        yield batch.reshape(knobs.replicas, -1, *batch.shape[1:])


def evaluate(knobs: Knobs, state: Mapping[str, Any]) -> dict[str, float]:
    """Of the first replica, which is the only one that the original evaluated; and how far the replicas are apart."""
    first = jax.tree.map(lambda leaf: leaf[0], state["params"])
    measure = (other_data.evaluator if knobs.data else evaluator)(knobs)
    found = {name: float(value) for name, value in measure(first).items()}
    return {**found, "replica_spread": float(training.spread(state["params"]))}


def keep_compiled() -> None:
    """Lets jax keep what it compiles in the cases' folder, where the user hasn't named one."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder() / "compiled"))


def build(seed: int, knobs: Knobs) -> JaxTraining:
    """One training; equal knobs share what is compiled."""
    training.check(knobs)
    keep_compiled()

    def fresh(seed: int) -> training.Params:
        return training.replicate(training.init(knobs, seed), knobs.replicas)

    return JaxTraining(
        seed=seed,
        init=fresh,
        tx=training.transformation(knobs),
        step=training.step(knobs),
        batches=partial(batches, seed, knobs),
        evaluate=partial(evaluate, knobs),
        extra=training.extra(fresh(seed), seed),
    )


recipe = Recipe(
    build=build,
    knobs=Knobs,
    metric="context_use",
    higher_is_better=True,
    margin=0.01,
    steps=1000,
    guards=(
        "eval_loss=lower",
        "novel_context_use=higher",
        "novel_loss=lower",
        "replica_spread=lower",
    ),
)
