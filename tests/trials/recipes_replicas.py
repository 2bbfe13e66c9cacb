"""A jax recipe on several replicas that each see other classes only, and by default never hear of each other."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

from pitprop.trials import Recipe
from pitprop.trials.jax import JaxTraining

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
TRAIN, REPLICAS = 1500, 5


@dataclass(frozen=True)
class Knobs:
    synchronised: bool = False
    centred: bool = False


@functools.cache
def adam():
    tx = optax.adam(0.01)
    return optax.GradientTransformation(jax.vmap(tx.init), jax.vmap(tx.update))


@functools.cache
def step(knobs):
    def of_replica(params, x, y):
        def loss_of(params):
            logits = x @ params["w"] + params["b"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        return jax.lax.pmean((loss, gradients), ("data", "replica")) if knobs.synchronised else (loss, gradients)

    mapped = jax.shard_map(
        jax.vmap(of_replica, axis_name="replica"),
        mesh=Mesh(np.array(jax.devices()[:1]), ("data",)),
        in_specs=P("data"),
        out_specs=P("data"),
        check_vma=False,
    )

    def whole(state, batch, tx):
        losses, gradients = mapped(state["params"], *batch)
        updates, opt_state = tx.update(gradients, state["opt_state"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, {
            "loss": losses.mean()
        }

    return whole


def build(seed, knobs):
    shift = X.mean(0) * knobs.centred

    def init(seed):
        w = 0.01 * jax.random.normal(jax.random.key(seed), (64, 10))
        return {"w": jnp.tile(w, (REPLICAS, 1, 1)), "b": jnp.zeros((REPLICAS, 10))}

    def batches(cursor):
        while True:
            rng = np.random.default_rng([seed, cursor])
            rows = np.stack([rng.choice(np.flatnonzero(Y[:TRAIN] // 2 == r), 16) for r in range(REPLICAS)])
            yield X[rows] - shift, Y[rows]
            cursor += 1

    def evaluate(state):
        logits = (X[TRAIN:] - shift) @ state["params"]["w"][0] + state["params"]["b"][0]
        return {"accuracy": (logits.argmax(1) == Y[TRAIN:]).mean()}

    return JaxTraining(seed=seed, init=init, tx=adam(), step=step(knobs), batches=batches, evaluate=evaluate)


recipe = Recipe(build=build, knobs=Knobs, metric="accuracy", margin=0.02, steps=60)
