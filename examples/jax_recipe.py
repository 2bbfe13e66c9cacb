"""A recipe in jax: logistic regression on scikit-learn's digits.

pitprop trial examples/jax_recipe.py:recipe --freeze b --lr 0.1 --scale-parameters w=0 --seeds 4
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from pitprop.trials import Recipe
from pitprop.trials.jax import JaxTraining, Transformation

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
TRAIN = 1500


@dataclass(frozen=True)
class Knobs:
    lr: float = 0.5


@functools.cache  # made once per setting, so that the step is compiled once per worker
def sgd(lr):
    """optax.sgd(lr) does the same."""

    def update(gradients, opt_state, params=None):
        return jax.tree.map(lambda g: -lr * g, gradients), opt_state

    return Transformation(lambda params: (), update)


def init(seed):
    return {"w": jax.random.normal(jax.random.key(seed), (64, 10)) / 8, "b": jnp.zeros(10)}


def step(state, batch, tx):
    x, y = batch

    def loss_of(params):
        log_p = jax.nn.log_softmax(x @ params["w"] + params["b"])
        return -jnp.take_along_axis(log_p, y[:, None], 1).mean()

    loss, gradients = jax.value_and_grad(loss_of)(state["params"])
    updates, opt_state = tx.update(gradients, state["opt_state"], state["params"])
    return {"params": jax.tree.map(jnp.add, state["params"], updates), "opt_state": opt_state}, {"loss": loss}


def evaluate(state):
    logits = X[TRAIN:] @ state["params"]["w"] + state["params"]["b"]
    return {"accuracy": (logits.argmax(1) == Y[TRAIN:]).mean()}


def build(seed, knobs):
    def batches(cursor):
        while True:
            rows = np.random.default_rng([seed, cursor]).integers(0, TRAIN, 32)
            yield X[rows], Y[rows]
            cursor += 1

    return JaxTraining(seed=seed, init=init, tx=sgd(knobs.lr), step=step, batches=batches, evaluate=evaluate)


recipe = Recipe(build=build, knobs=Knobs, metric="accuracy", margin=0.02, steps=200)
