"""Jax recipes on scikit-learn's digits: a small MLP with dropout and Adam, and two that break the contract."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from pitprop.trials import Recipe
from pitprop.trials.jax import JaxTraining, Transformation


@dataclass(frozen=True)
class Knobs:
    lr: float = 0.01
    blind: bool = False
    """Whether the pixels are taken away: then nothing can be learnt."""
    dtype: str = "float32"
    fault: str = ""


class Moments(NamedTuple):
    count: jax.Array
    first: dict
    second: dict


@functools.cache
def adam(lr):
    """Adam in the form of optax, which the tests do without."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Moments(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(gradients, state, params=None):
        count = state.count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.first, gradients)
        second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, state.second, gradients)
        slow, fast = 1 - 0.9**count, 1 - 0.99**count
        updates = jax.tree.map(
            lambda m, v: (-lr * (m / slow) / (jnp.sqrt(v / fast) + 1e-8)).astype(m.dtype), first, second
        )
        return updates, Moments(count, first, second)

    return Transformation(init, update)


@functools.cache
def sgd(lr):
    return Transformation(lambda params: (), lambda gradients, state, params=None: (scaled(gradients, -lr), state))


def scaled(tree, factor):
    return jax.tree.map(lambda leaf: leaf * factor, tree)


X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
TRAIN = 1500


def forward(params, x, key=None):
    hidden = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
    if key is not None:
        hidden = hidden * jax.random.bernoulli(key, 0.8, hidden.shape)
    return hidden @ params["head"]["w"] + params["head"]["b"]


def step(state, batch, tx):
    x, y = batch
    key, drop = jax.random.split(state["key"])

    def loss_of(params):
        logits = forward(params, x, drop).astype(jnp.float32)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

    loss, gradients = jax.value_and_grad(loss_of)(state["params"])
    updates, opt_state = tx.update(gradients, state["opt_state"], state["params"])
    params = jax.tree.map(jnp.add, state["params"], updates)
    return {"params": params, "opt_state": opt_state, "key": key}, {"loss": loss}


def deaf(state, batch, tx):
    """A step that uses a transformation of its own."""
    return step(state, batch, adam(0.01))


def build(seed, knobs):
    dtype = jnp.dtype(knobs.dtype)
    scale = float(not knobs.blind)

    def init(seed):
        keys = jax.random.split(jax.random.key(seed))
        return {
            "hidden": {"w": (jax.random.normal(keys[0], (64, 16)) / 8).astype(dtype), "b": jnp.zeros(16, dtype)},
            "head": {"w": (jax.random.normal(keys[1], (16, 10)) / 4).astype(dtype), "b": jnp.zeros(10, dtype)},
        }

    def batches(cursor):
        while True:
            rows = np.random.default_rng([seed, cursor]).integers(0, TRAIN, 32)
            yield X[rows] * scale, Y[rows]
            cursor += 1

    def evaluate(state):
        logits = forward(state["params"], X[TRAIN:] * scale)
        return {"accuracy": (logits.argmax(1) == Y[TRAIN:]).mean()}

    extra = {"key": jax.random.key(seed + 1)}
    if knobs.fault == "own generator":
        generator = np.random.default_rng(seed)  # lives outside of the state

        def noisy(cursor):
            return ((x + generator.normal(size=x.shape).astype(np.float32), y) for x, y in batches(cursor))

        return JaxTraining(
            seed=seed, init=init, tx=adam(knobs.lr), step=step, batches=noisy, evaluate=evaluate, extra=extra
        )
    return JaxTraining(
        seed=seed,
        init=init,
        tx=sgd(knobs.lr) if knobs.fault == "sgd" else adam(knobs.lr),
        step=deaf if knobs.fault == "deaf" else step,
        batches=batches,
        evaluate=evaluate,
        extra=extra,
    )


recipe = Recipe(build=build, knobs=Knobs, metric="accuracy", margin=0.02, steps=60)
