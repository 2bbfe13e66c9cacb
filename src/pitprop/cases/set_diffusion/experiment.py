"""All arms as one compiled program: what tells arms apart are numbers in it, and seeds run side by side.

Compiling a training takes longer than running one, so the program is of a model with everything in it, and an arm says
by numbers what of it acts: rates, bounds, and a mask on what is trained. A block that is left out has zeros where its
output is made, and keeps them. A test compares it with the recipe's own step.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from numpy import ndarray

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion import training
from pitprop.cases.set_diffusion.arms import EVERY
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import evaluator
from pitprop.cases.set_diffusion.recipe import batches, keep_compiled
from pitprop.cases.set_diffusion.training import ACCUMULATED, AXIS, Params
from pitprop.watch.histogram import NAME, NUM_BUCKETS, magnitudes

SIZES = (
    "image_size", "channels", "sample_size", "patch_size", "hidden", "heads", "dim_head", "mlp_ratio", "batch_size",
    "diffusion_steps", "replicas", "ema", "conditioning", "shifts", "temperature_learned",
)  # fmt: skip
"""Knobs that all arms of one program have in common."""
DEPTHS = ("depth", "encoder_depth")
OUTPUTS = {
    "dit": (("adaln", "kernel"), ("adaln", "bias")),
    "encoder": (
        ("attention", "to_out", "kernel"),
        ("attention", "to_out", "bias"),
        ("mlp2", "kernel"),
        ("mlp2", "bias"),
    ),
}
"""Parameters of a block without which it hands on what it is given."""


class Numbers(NamedTuple):
    """An arm, as the program takes it."""

    synchronised: Array
    dropout: Array
    clip: Array
    """Bound on the gradient's norm; infinite for none."""
    weight_decay: Array
    sgd: Array
    every: Array
    """Steps that are accumulated."""
    holds: Array
    """Whether the optimizer waits while gradients are accumulated (`MultiSteps`)."""
    trained: Params
    """1 where a parameter is trained, else 0; of shapes that broadcast."""


class State(NamedTuple):
    """One training; parameters and what the optimizer keeps have the replicas along their first axis."""

    params: Params
    adam: Any
    accumulated: Params
    average: Params
    """Of the first replica's parameters."""
    key: Key[Array, ""]
    count: Int[Array, ""]


class Run(NamedTuple):
    """An arm on all its seeds."""

    logged: dict[str, Float[ndarray, "seed step *bucket"]]
    measured: dict[str, Float[ndarray, "seed look"]]
    """Of the first replica on held-out images, before the first step and after each chunk of steps."""
    averages: Params
    """The first replica's averaged parameters at the end, by seed."""


def whole(knobs: Knobs) -> Knobs:
    """The model that has all that an arm may use, with the sizes and depths of `knobs`."""
    sizes = {name: getattr(knobs, name) for name in (*SIZES, *DEPTHS)}
    return Knobs(**sizes, layer_norm_scale=True, null_context="learnable", context_dropout=0.5)


def model_of(arm: Knobs) -> Knobs:
    """The model whose program trains `arm`: of the usual depth, or the arm's where that is more."""
    return whole(replace(arm, **{name: max(getattr(arm, name), getattr(Knobs(), name)) for name in DEPTHS}))


def numbers(arm: Knobs, model: Knobs) -> Numbers:
    """What the program is told of an arm.

    Raises:
        PitpropError: The arm is of other sizes, or deeper, or clips what `MultiSteps` accumulates.
    """
    other = [name for name in SIZES if getattr(arm, name) != getattr(model, name)]
    deeper = [name for name in DEPTHS if getattr(arm, name) > getattr(model, name)]
    if other or deeper:
        raise PitpropError(f"The arm differs from the program in {', '.join(other + deeper)}.", do="run it by itself.")
    if arm.accumulation == "multi_steps" and arm.clip:
        raise PitpropError("MultiSteps would clip what is accumulated.", do="choose `clip` 0, or `apply_every`.")
    trained: Params = jax.tree.map(lambda leaf: jnp.ones((1,) * len(leaf.shape)), training.shapes(model))
    dit, scale = trained["dit"], float(arm.layer_norm_scale)
    for norm in (dit["blocks"]["norm1"], dit["blocks"]["norm2"], dit["final"]["norm"]):
        for name in norm:
            norm[name] = norm[name] * scale
    dit["null"] = dit["null"] * float(arm.null_context == "learnable")
    for part, used, depth in (("dit", arm.depth, model.depth), ("encoder", arm.encoder_depth, model.encoder_depth)):
        there = jnp.arange(depth) < used
        blocks = trained[part]["blocks"]
        trained[part]["blocks"] = jax.tree.map(
            lambda leaf, there=there: leaf * there.reshape(-1, *leaf.shape[1:]), blocks
        )
    return Numbers(
        synchronised=jnp.asarray(arm.synchronised),
        dropout=jnp.asarray(arm.context_dropout),
        clip=jnp.asarray(arm.clip or jnp.inf),
        weight_decay=jnp.asarray(arm.weight_decay),
        sgd=jnp.asarray(arm.optimizer == "sgd"),
        every=jnp.asarray(1 if arm.accumulation == "none" else ACCUMULATED),
        holds=jnp.asarray(arm.accumulation == "multi_steps"),
        trained=trained,
    )


def rates(arm: Knobs, steps: int) -> Float[ndarray, " step"]:
    """The learning rate at each step."""
    schedule = training.rate(arm)
    at = np.arange(steps) // (ACCUMULATED if arm.accumulation == "multi_steps" else 1)
    return (
        np.array([schedule(step) for step in at], np.float32)
        if callable(schedule)
        else np.full(steps, schedule, np.float32)
    )


def initial(arm: Knobs, model: Knobs, seed: int) -> Params:
    """The arm's initial parameters within the whole model; equal seeds differ in what the arm says alone."""
    start = replace(model, adaln=arm.adaln, temperature=arm.temperature, spt_scale=arm.spt_scale)
    params = training.init(start, seed)
    if arm.null_context == "zeros":
        params["dit"]["null"] = jnp.zeros_like(params["dit"]["null"])
    for part, used in (("dit", arm.depth), ("encoder", arm.encoder_depth)):
        for *path, last in OUTPUTS[part]:
            at = params[part]["blocks"]
            for name in path:
                at = at[name]
            at[last] = at[last].at[used:].set(0)
    return params


def start(arm: Knobs, model: Knobs, seed: int, replicas: int) -> State:
    """The training before its first step."""
    own = initial(arm, model, seed)
    params = training.replicate(own, replicas)
    extra = training.extra(params, seed)
    nothing = jax.tree.map(jnp.zeros_like, params)
    return State(params, jax.vmap(optax.scale_by_adam().init)(params), nothing, own, extra["key"], extra["count"])


def step(
    model: Knobs, arm: Numbers, state: State, rate: Array, sets: Array
) -> tuple[State, dict[str, Float[Array, ""]]]:
    """One step of all replicas."""
    key = jax.random.fold_in(state.key, state.count)
    due = (state.count + 1) % arm.every == 0

    def gradients(params: Params, own: Array) -> tuple[dict[str, Array], Params]:
        of_replica = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        loss, shuffled_loss, context, found = training.own_gradients(model, params, own, of_replica, arm.dropout)
        together = jax.lax.pmean((loss, found), AXIS)
        loss, found = jax.tree.map(partial(jnp.where, arm.synchronised), together, (loss, found))
        found = jax.tree.map(jnp.multiply, found, arm.trained)
        counts = _histograms(found, state.count % EVERY == 0)
        return {**training.what_is_logged(loss, shuffled_loss, context, found), **counts}, found

    def move(found: Any, params: Params, adam: Any, accumulated: Params) -> tuple[Params, Any, Params]:
        found, _ = optax.clip_by_global_norm(arm.clip).update(found, optax.EmptyState())
        accumulated = jax.tree.map(jnp.add, accumulated, found)
        share = jnp.where(due, jnp.where(arm.holds, 1 / arm.every, 1.0), 0.0)
        given = jax.tree.map(lambda leaf: leaf * share, accumulated)
        accumulated = jax.tree.map(lambda leaf: jnp.where(due, 0.0, leaf), accumulated)
        scaled, moved = optax.scale_by_adam().update(given, adam)
        acts = due | ~arm.holds
        adam = jax.tree.map(partial(jnp.where, acts), moved, adam)

        def moved_by(direction: Array, gradient: Array, leaf: Array, trained: Array) -> Array:
            direction = jnp.where(arm.sgd, gradient, direction + arm.weight_decay * leaf)
            return leaf - rate * acts * trained * direction

        return jax.tree.map(moved_by, scaled, given, params, arm.trained), adam, accumulated

    logged, found = jax.vmap(gradients, axis_name=AXIS)(state.params, sets)
    params, adam, accumulated = jax.vmap(move)(found, state.params, state.adam, state.accumulated)
    average = jax.tree.map(lambda old, new: model.ema * old + (1 - model.ema) * new[0], state.average, params)
    return State(params, adam, accumulated, average, state.key, state.count + 1), training.of_all(logged, params)


@cache
def program(model: Knobs) -> Any:
    """`(arm, states, rates, sets) -> (states, logged)`: a chunk of steps of all seeds, one seed after the other.

    A training's step took 23 ms of CPU time that way, 27 ms with all seeds side by side (`vmap`) and 31 ms one training
    at a time: medians of 3 times 20 steps, 8 seeds, on one core of a busy machine.
    """

    def chunk(arm: Numbers, states: State, rates: Array, sets: Array) -> tuple[State, dict[str, Array]]:
        def one(given: tuple[State, Array]) -> tuple[State, dict[str, Array]]:
            return jax.lax.scan(lambda state, at: step(model, arm, state, *at), given[0], (rates, given[1]))

        return jax.lax.map(one, (states, sets))

    return jax.jit(chunk)


@cache
def measuring(model: Knobs) -> Any:
    """`(parameters of all seeds) -> metrics`, of each one's first replica, which is all that the original evaluated."""
    evaluate = evaluator(model)
    return jax.jit(lambda params: jax.lax.map(lambda own: evaluate(jax.tree.map(lambda leaf: leaf[0], own)), params))


def run(arm: Knobs, model: Knobs, seeds: Sequence[int], *, steps: int, every: int, replicas: int | None = None) -> Run:
    """Trains an arm on all seeds, and measures before the first step and after every `every` steps.

    Args:
        arm: Settings.
        model: Of the program, as from `whole`.
        seeds: Of initial parameters, batches and noise; equal ones are paired over arms.
        steps: A multiple of `every`.
        every: Steps between two measurements.
        replicas: Train the first so many only. Those that never hear of each other need not be trained together, and
            metrics are the first one's.

    Raises:
        PitpropError: The arm doesn't fit the program, or its replicas hear of each other and some are left out.
    """
    keep_compiled()
    replicas = replicas or model.replicas
    if arm.synchronised and replicas != model.replicas:
        raise PitpropError("A synchronised arm needs all of its replicas.", do="leave `replicas` out.")
    told, schedule = numbers(arm, model), rates(arm, steps).reshape(-1, every)
    states = _stacked([start(arm, model, seed, replicas) for seed in seeds])
    data = [batches(seed, model, 0) for seed in seeds]
    logged, measured = [], [measuring(model)(states.params)]
    for chunk in schedule:
        sets = np.stack([np.stack([next(own)[:replicas] for _ in range(every)]) for own in data])
        states, rows = program(model)(told, states, chunk, sets)
        logged.append(rows)
        measured.append(measuring(model)(states.params))
    return Run(
        logged={name: np.concatenate([np.asarray(rows[name]) for rows in logged], 1) for name in logged[0]},
        measured={name: np.stack([np.asarray(look[name]) for look in measured], 1) for name in measured[0]},
        averages=states.average,
    )


def _histograms(found: Params, due: Bool[Array, ""]) -> dict[str, Int[Array, " bucket"]]:
    """Of the gradients of encoder and DiT where they are `due`, else zeros."""
    # Behind a barrier, or XLA may fuse them with the training and round that otherwise.
    found = jax.lax.optimization_barrier(found)

    def count(own: Params) -> Int[Array, " bucket"]:
        return reduce(jnp.add, map(magnitudes, jax.tree.leaves(own)))

    def none(own: Params) -> Int[Array, " bucket"]:
        return jnp.zeros(NUM_BUCKETS, jnp.int32)

    return {f"{part}_{NAME}": jax.lax.cond(due, count, none, own) for part, own in found.items()}


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
