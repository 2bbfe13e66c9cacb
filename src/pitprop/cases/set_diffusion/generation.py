"""New images from trained models, and how far they are from the real ones of their class."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pitprop.cases.set_diffusion import experiment
from pitprop.cases.set_diffusion.data import NOVEL_CLASSES, TRAIN_CLASSES, digits
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import class_distance, classifier, evaluation_sets, generator

Images = Float[ndarray, "set image channel height width"]

ByClass = dict[str, dict[int, float]]
"""Number -> class -> value."""


def generated(run: Run, sets: Images) -> list[Images]:
    """For each image of each set a new one, drawn from the six others by the averaged parameters; by seed."""
    draw = generator(experiment.whole(Knobs()))
    num_seeds = len(jax.tree.leaves(run.averages)[0])
    several = [jax.tree.map(lambda leaf, seed=seed: jnp.asarray(leaf[seed]), run.averages) for seed in range(num_seeds)]
    return [np.asarray(draw(params, jnp.asarray(sets), jax.random.key(0))) for params in several]


def by_class(images: Images, real: Mapping[int, ndarray]) -> ByClass:
    """Of each class: distance of its new images to the real ones, and the share that the classifier takes for it.

    Args:
        images: Number i is of class i modulo the number of classes, as in `balanced_sets`.
        real: Images by class.
    """
    own = {k: images[at :: len(real)].reshape(-1, *images.shape[2:]) for at, k in enumerate(sorted(real))}
    said = {k: classifier().predict(found.reshape(len(found), -1)) for k, found in own.items()}
    return {
        "distance": {k: class_distance(found, real[k]) for k, found in own.items()},
        "recognised": {k: float((said[k] == k).mean()) for k in own},
    }


def measured(runs: Mapping[str, Run]) -> dict[str, Any]:
    """Of each arm and kind of classes, by seed and class; and the same of the evaluation sets' own, real images."""
    split = digits()
    seen, novel = evaluation_sets(Knobs())
    kinds = {"trained classes": (seen, split.validation), "new classes": (novel, split.novel)}
    found: dict[str, Any] = {
        "classes": {"trained classes": TRAIN_CLASSES, "new classes": NOVEL_CLASSES},
        "real": {kind: by_class(sets, real) for kind, (sets, real) in kinds.items()},
    }
    for arm, run in runs.items():
        found[arm] = {
            kind: [by_class(images, real) for images in generated(run, sets)] for kind, (sets, real) in kinds.items()
        }
    return found
