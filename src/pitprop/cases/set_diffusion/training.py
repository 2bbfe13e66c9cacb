"""The training: the epsilon loss of a set with leave-one-out contexts, on one or several replicas.

Replicas are copies of the parameters along a leading axis. On one device they run by `vmap`, on several by `shard_map`;
what one replica does is the same function, `gradients`. The original never averaged the gradients over its devices.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion.data import leave_one_out
from pitprop.cases.set_diffusion.dit import DiT
from pitprop.cases.set_diffusion.encoder import sViT
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.schedule import q_sample

AXIS, LOCAL = "data", "replica"
"""Axes of the devices, and of the replicas on one device."""
ACCUMULATED = 4
"""Steps that are accumulated, as in the seed."""
Params = dict[str, Any]
"""`encoder` and `dit`, nested dicts of arrays."""


def check(knobs: Knobs) -> None:
    """Raises `PitpropError` where the sizes don't divide."""
    for part, whole in (("replicas", "batch_size"), ("patch_size", "image_size"), ("heads", "hidden")):
        if getattr(knobs, whole) % getattr(knobs, part):
            raise PitpropError(
                f"`{whole}` is {getattr(knobs, whole)}, which {getattr(knobs, part)} `{part}` don't divide.",
                do=f"choose a `{whole}` that is a multiple of `{part}`.",
            )
    if knobs.hidden % 4:
        raise PitpropError(f"`hidden` is {knobs.hidden}.", do="choose a multiple of 4, for sines of rows and columns.")


class System(nnx.Module):
    """Encoder and DiT."""

    def __init__(self, knobs: Knobs, rngs: nnx.Rngs):
        self.encoder, self.dit = sViT(knobs, rngs), DiT(knobs, rngs)


@cache
def _graph(knobs: Knobs) -> Any:
    """The model without its parameters."""
    return nnx.split(nnx.eval_shape(lambda: System(knobs, nnx.Rngs(0))))[0]


def bind(knobs: Knobs, params: Params) -> System:
    """The model with these parameters."""
    return nnx.merge(_graph(knobs), params)


def _fresh(knobs: Knobs, key: Key[Array, ""]) -> Params:
    return nnx.to_pure_dict(nnx.state(System(knobs, nnx.Rngs(key)), nnx.Param))


@cache
def _initialiser(knobs: Knobs) -> Callable[[Key[Array, ""]], Params]:
    # It runs once: optimising what is compiled would cost more than it saves.
    return jax.jit(partial(_fresh, knobs), compiler_options={"xla_backend_optimization_level": 0})


def init(knobs: Knobs, seed: int) -> Params:
    """Fresh parameters, one copy."""
    return _initialiser(knobs)(jax.random.key(seed))


def shapes(knobs: Knobs) -> Params:
    """Of the parameters, without making any."""
    return jax.eval_shape(partial(_fresh, knobs), jax.random.key(0))


def replicate(tree: Any, replicas: int) -> Any:
    """Copies of every leaf along a new leading axis."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (replicas, *jnp.shape(leaf))), tree)


def contexts(
    system: System, sets: Float[Array, "set image channel height width"]
) -> Float[Array, "set image *token hidden"]:
    """For each image the context of the others of its set; all of them in one pass of the encoder."""
    b, n = sets.shape[:2]
    others = sets[:, leave_one_out(n)].reshape(b * n, n - 1, *sets.shape[2:])
    found = system.encoder(others)
    return found.reshape(b, n, *found.shape[1:])


class Draws(NamedTuple):
    """What is random in one loss."""

    t: Int[Array, " set"]
    """Noise level, shared by the images of a set."""
    noise: Float[Array, "set image channel height width"]
    dropped: Array
    """Sets that get the null context."""


def draw(knobs: Knobs, key: Key[Array, ""], shape: tuple[int, ...], dropout: float | Array) -> Draws:
    """Of a batch of sets of this shape."""
    level, noise, drop = jax.random.split(key, 3)
    return Draws(
        jax.random.randint(level, shape[:1], 0, knobs.diffusion_steps),
        jax.random.normal(noise, shape),
        jax.random.bernoulli(drop, dropout, shape[:1]),
    )


def epsilon_loss(knobs: Knobs, system: System, sets: Array, context: Array, draws: Draws) -> Float[Array, "set image"]:
    """Squared error of the predicted noise, the mean over each image's pixels."""
    b, n = sets.shape[:2]
    if knobs.context_dropout:
        null = jnp.broadcast_to(system.dit.null_context(), context.shape)
        context = jnp.where(draws.dropped.reshape(-1, *[1] * (context.ndim - 1)), null, context)
    t = jnp.repeat(draws.t, n)
    x, noise = (array.reshape(b * n, *sets.shape[2:]) for array in (sets, draws.noise))
    predicted = system.dit(q_sample(x, t, noise, knobs.diffusion_steps), t, context.reshape(b * n, *context.shape[2:]))
    return jnp.square(predicted - noise).mean((1, 2, 3)).reshape(b, n)


class Own(NamedTuple):
    """Of one replica by itself."""

    loss: Float[Array, ""]
    shuffled_loss: Float[Array, ""]
    """Each set's with the context of the next set of the batch; same noise and levels."""
    context: Float[Array, "set image *token hidden"]
    gradients: Params


def own_gradients(knobs: Knobs, params: Params, sets: Array, key: Key[Array, ""], dropout: float | Array) -> Own:
    """Losses, contexts and gradients of one replica."""
    draws = draw(knobs, key, sets.shape, dropout)

    def loss_of(params: Params) -> tuple[Array, Array]:
        system = bind(knobs, params)
        context = contexts(system, sets)
        return epsilon_loss(knobs, system, sets, context, draws).mean(), context

    (loss, context), found = jax.value_and_grad(loss_of, has_aux=True)(params)
    # Behind a barrier, or XLA may fuse it with the training and round that otherwise.
    params, others = jax.lax.optimization_barrier((params, jnp.roll(context, 1, 0)))
    shuffled = epsilon_loss(knobs, bind(knobs, params), sets, others, draws).mean()
    return Own(loss, shuffled, context, found)


def what_is_logged(loss: Array, shuffled_loss: Array, context: Array, found: Params) -> dict[str, Array]:
    """What the original logs of a replica, and what says more of the context."""
    return {
        "loss": loss,
        "shuffled_loss": shuffled_loss,
        "encoder_gradient_norm": optax.tree.norm(found["encoder"]),
        "dit_gradient_norm": optax.tree.norm(found["dit"]),
        "context": context.mean(),  # the original's `context`: the signed mean of all entries
        "context_norm": jnp.linalg.norm(context.reshape(-1, context.shape[-1]), axis=-1).mean(),
        "context_std": context.std(),
        "between_set_std": context.mean(1).reshape(context.shape[0], -1).std(0).mean(),
    }


def of_all(logged: dict[str, Array], params: Params) -> dict[str, Array]:
    """What was logged of each replica, as one row: means, and what the replicas are to each other."""
    row = jax.tree.map(lambda values: values.mean(0), logged)
    gap = (row.pop("shuffled_loss") - row["loss"]) / row["loss"]
    return {**row, "condition_gap": gap, "replica_spread": spread(params)}


def gradients(
    knobs: Knobs, params: Params, sets: Array, key: Key[Array, ""], axes: tuple[str, ...]
) -> tuple[dict[str, Array], Params]:
    """Of one replica: what is logged, and the gradients; averaged over the replicas where `synchronised`."""
    loss, shuffled_loss, context, found = own_gradients(knobs, params, sets, key, knobs.context_dropout)
    if knobs.synchronised:
        loss, found = jax.lax.pmean((loss, found), axes)
    return what_is_logged(loss, shuffled_loss, context, found), found


class Replicated(NamedTuple):
    """A gradient transformation for every replica by itself."""

    init: Callable[[Params], Any]
    update: Callable[..., Any]


@cache
def transformation(knobs: Knobs) -> Replicated:
    """The optimizer of the knobs, over the leading axis of parameters."""
    tx = optimizer(knobs)
    return Replicated(jax.vmap(tx.init), jax.vmap(tx.update))


def rate(knobs: Knobs) -> float | optax.Schedule:
    """Constant, or the seed's warm-up and cosine."""
    if not knobs.warmup:
        return knobs.lr
    return optax.warmup_cosine_decay_schedule(
        knobs.lr / 100, knobs.lr, knobs.warmup, knobs.horizon, end_value=knobs.lr / 10
    )


def optimizer(knobs: Knobs) -> optax.GradientTransformation:
    """AdamW (or SGD), with the seed's additions where the knobs ask for them, in the seed's order."""
    parts = [optax.clip_by_global_norm(knobs.clip)] if knobs.clip else []
    if knobs.accumulation == "apply_every":
        parts.append(optax.apply_every(ACCUMULATED))
    adamw = knobs.optimizer == "adamw"
    parts.append(optax.adamw(rate(knobs), weight_decay=knobs.weight_decay) if adamw else optax.sgd(rate(knobs)))
    tx = optax.chain(*parts)
    if knobs.accumulation != "multi_steps":
        return tx
    return optax.MultiSteps(tx, ACCUMULATED).gradient_transformation()


State = dict[str, Any]
Step = Callable[[State, Array, Any], tuple[State, dict[str, Array]]]


def start(knobs: Knobs, seed: int) -> State:
    """The state before the first step; `opt_state` is the transformation's to make."""
    params = replicate(init(knobs, seed), knobs.replicas)
    return {"params": params, **extra(params, seed)}


def extra(params: Params, seed: int) -> State:
    """What a training carries beside parameters and optimizer: their average, the random key and the step."""
    return {"ema": params, "key": jax.random.key(seed + 1_000_003), "count": jnp.zeros((), jnp.int32)}


@cache
def step(knobs: Knobs, devices: int | None = None) -> Step:
    """`(state, sets, tx) -> (state, logged)`.

    The replicas are divided among `devices` (by default as many as there are and divide them); those on one device run
    side by side. `sets` has shape `[replica, set, image, channel, height, width]`; logged are means over the replicas.
    """
    devices = devices or math.gcd(len(jax.devices()), knobs.replicas)
    mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))

    def of_device(params: Params, sets: Array, key: Array) -> tuple[dict[str, Array], Params]:
        first = jax.lax.axis_index(AXIS) * (knobs.replicas // devices)

        def of_replica(params: Params, own: Array) -> tuple[dict[str, Array], Params]:
            number = first + jax.lax.axis_index(LOCAL)
            return gradients(knobs, params, own, jax.random.fold_in(key, number), (AXIS, LOCAL))

        return jax.vmap(of_replica, axis_name=LOCAL)(params, sets)

    # check_vma is off because the initial parameters are whole arrays: what differs is told by `collectives`.
    mapped = jax.shard_map(of_device, mesh=mesh, in_specs=(P(AXIS), P(AXIS), P()), out_specs=P(AXIS), check_vma=False)

    def one_step(state: State, sets: Array, tx: Any) -> tuple[State, dict[str, Array]]:
        key = jax.random.fold_in(state["key"], state["count"])
        logged, found = mapped(state["params"], sets, key)
        params, opt_state = _updated(tx, found, state)
        ema = _averaged(state["ema"], params, knobs.ema)
        after = {**state, "params": params, "opt_state": opt_state, "ema": ema, "count": state["count"] + 1}
        return after, of_all(logged, params)

    return one_step


def spread(params: Params) -> Float[Array, ""]:
    """Replica spread: root of the replicas' mean squared distance to their mean, over all parameters.

    0 is "one model". In the parameters' units.
    """
    squares = [jnp.square(leaf - leaf.mean(0)).sum() / leaf.shape[0] for leaf in jax.tree.leaves(params)]
    return jnp.sqrt(jnp.asarray(squares).sum())


def collectives(knobs: Knobs) -> list[str]:
    """Names of the collectives in the step's jaxpr: a static detector.

    A data-parallel step without any `psum` trains as many models as there are devices.
    """
    tx = transformation(knobs)
    params = jax.eval_shape(lambda: jax.tree.map(lambda leaf: jnp.zeros((knobs.replicas, *leaf.shape)), shapes(knobs)))
    state = jax.eval_shape(lambda params: {"params": params, "opt_state": tx.init(params), **extra(params, 0)}, params)
    images = (knobs.sample_size + 1, knobs.channels, knobs.image_size, knobs.image_size)
    sets = jax.ShapeDtypeStruct((knobs.replicas, 1, *images), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda state, sets: step(knobs)(state, sets, tx))(state, sets)
    return sorted({name for name in _primitives(jaxpr.jaxpr) if name.startswith(("psum", "all_reduce", "pmean"))})


def _primitives(jaxpr: Any) -> list[str]:
    found = []
    for equation in jaxpr.eqns:
        found.append(equation.primitive.name)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found.extend(_primitives(inner))
    return found


def _updated(tx: Any, found: Params, state: State) -> tuple[Any, Any]:
    updates, opt_state = tx.update(found, state["opt_state"], state["params"])
    return optax.apply_updates(state["params"], updates), opt_state


def _averaged(average: Params, params: Params, decay: float) -> Params:
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
