"""What is measured on held-out data: is the context used, is the loss low, do samples look like their class.

Context use is the share of the loss that a set's own context saves against another set's. Neither the context's mean
nor a gradient's norm can say that.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from pitprop.cases._frechet import frechet_distance
from pitprop.cases.set_diffusion.data import NOVEL_CLASSES, balanced_sets, digits
from pitprop.cases.set_diffusion.knobs import Knobs, of_the_model
from pitprop.cases.set_diffusion.schedule import sample
from pitprop.cases.set_diffusion.training import Draws, Params, bind, contexts, epsilon_loss

REPEATS = 4
"""Sets per class in an evaluation."""


def context_losses(
    knobs: Knobs, params: Params, sets: Float[Array, "set image channel height width"], num_classes: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean epsilon loss with each set's own context, and with a set's of another class; same noise and levels.

    Args:
        knobs: Of the model.
        params: One replica's.
        sets: As from `balanced_sets`: number i is of class i modulo `num_classes`.
        num_classes: Rolls by 1 and by 2 are tried.
    """
    system = bind(knobs, params)
    rng = np.random.default_rng(1)
    # Noise levels cover the diffusion evenly, so that two evaluations differ by the model alone.
    levels = rng.permutation((np.arange(len(sets)) + 0.5) / len(sets) * knobs.diffusion_steps).astype(np.int32)
    draws = Draws(
        jnp.asarray(levels),
        jnp.asarray(rng.normal(size=sets.shape), jnp.float32),
        jnp.zeros(len(sets), bool),
    )
    context = contexts(system, sets)
    own = epsilon_loss(knobs, system, sets, context, draws).mean()
    others = [
        epsilon_loss(knobs, system, sets, jnp.roll(context, by, 0), draws).mean()
        for by in range(1, min(3, num_classes))
    ]
    return own, jnp.stack(others).mean()


@cache
def evaluation_sets(knobs: Knobs) -> tuple[ndarray, ndarray]:
    """Held-out images of training classes, and images of classes that were never trained on."""
    size = knobs.sample_size + 1
    split = digits()
    return (
        balanced_sets(split.validation, repeats=REPEATS, set_size=size),
        balanced_sets(split.novel, repeats=2 * REPEATS, set_size=size),
    )


def evaluator(knobs: Knobs) -> Callable[[Params], dict[str, Array]]:
    """`evaluate(params of one replica)`, compiled once for all knobs of one model."""
    return _evaluator(of_the_model(knobs))


@cache
def _evaluator(knobs: Knobs) -> Callable[[Params], dict[str, Array]]:
    seen, novel = evaluation_sets(knobs)

    def measure(params: Params) -> dict[str, Array]:
        of_seen = context_losses(knobs, params, jnp.asarray(seen), 7)
        return measured(of_seen, context_losses(knobs, params, jnp.asarray(novel), len(NOVEL_CLASSES)))

    return jax.jit(measure)


def measured(seen: tuple[Array, Array], novel: tuple[Array, Array]) -> dict[str, Array]:
    """The metrics, of the losses with the own context and with another class's, on trained and on new classes."""
    (own, other), (novel_own, novel_other) = seen, novel
    return {
        "context_use": (other - own) / own,
        "eval_loss": own,
        "novel_context_use": (novel_other - novel_own) / novel_own,
        "novel_loss": novel_own,
    }


def generator(knobs: Knobs) -> Callable[[Params, Array, Array], Array]:
    """`generate(params, sets, key)`: for each image of a set a new one, drawn with the context of the others."""
    return _generator(of_the_model(knobs))


@cache
def _generator(knobs: Knobs) -> Callable[[Params, Array, Array], Array]:

    def generate(params: Params, sets: Array, key: Array) -> Array:
        system = bind(knobs, params)
        context = contexts(system, sets)
        b, n = sets.shape[:2]
        flat = context.reshape(b * n, *context.shape[2:])
        images = sample(lambda x, t: system.dit(x, t, flat), key, (b * n, *sets.shape[2:]), knobs.diffusion_steps)
        return images.reshape(sets.shape)

    return jax.jit(generate)


@cache
def classifier() -> Any:
    """A small classifier of all ten digits, trained on the training parts and the novel classes."""
    from sklearn.neural_network import MLPClassifier

    split = digits()
    by_class = {**split.train, **split.novel}
    images = np.concatenate([by_class[k] for k in sorted(by_class)]).reshape(-1, 64)
    labels = np.concatenate([np.full(len(by_class[k]), k) for k in sorted(by_class)])
    return MLPClassifier((32,), max_iter=60, early_stopping=True, random_state=0).fit(images, labels)


def features(images: Float[ndarray, "image channel height width"]) -> Float[ndarray, "image feature"]:
    """The classifier's hidden layer."""
    net = classifier()
    return np.maximum(np.asarray(images).reshape(-1, 64) @ net.coefs_[0] + net.intercepts_[0], 0)


def class_distance(
    generated: Float[ndarray, "image channel height width"], real: Float[ndarray, "image channel height width"]
) -> float:
    """Fréchet distance between generated and real images of one class, in the classifier's features."""
    return frechet_distance(features(generated), features(real))
