"""What needs no training of its own: parts of the model by themselves, and trained models looked at once more."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from jaxtyping import Array, Float
from numpy import ndarray

from pitprop.cases.set_diffusion import arms, experiment, training
from pitprop.cases.set_diffusion.arms import ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.data import balanced_sets, digits, sets
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.training import Draws, Params
from pitprop.indicators import attention_entropy_qk
from pitprop.records import RUN, Row
from pitprop.rules import detect
from pitprop.rules.condition_ignored import ConditionIgnored

MODEL = experiment.whole(Knobs())
"""Of the arms of the usual sizes."""
SIX = arms.changed(depth=6, encoder_depth=6, adaln="normal")
"""As deep as the original; not trained."""
LIVE = (1, 2, 4)
"""Steps from one row of the live gap to the next."""
LEVELS = (5, 25, 62, 125, 187, 245)
"""Noise levels, of 250, at which loss and gradient are looked at."""


def statics(runs: Mapping[str, Run], seeds: Sequence[int]) -> dict[str, Any]:
    """Everything of this file.

    Args:
        runs: Trained arms; the original and the synchronised one are looked at.
        seeds: Those of the runs.
    """
    return {
        "collectives": {
            str(synchronised): training.collectives(Knobs(synchronised=synchronised)) for synchronised in (False, True)
        },
        "layer_norm": layer_norm(),
        "levels": by_level(runs[SYNCHRONISED].averages),
        "blocks": {
            "adaLN zero, trained": by_block(runs[SYNCHRONISED].averages),
            "adaLN normal, untrained": by_block(_untrained("synchronised, adaLN normal", seeds)),
            "adaLN normal, trained": by_block(runs["synchronised, adaLN normal"].averages),
            "six blocks, adaLN normal, untrained": by_block(_fresh(SIX, seeds), experiment.model_of(SIX)),
        },
        "displacement": displacement(runs[SYNCHRONISED].averages, _untrained(SYNCHRONISED, seeds)),
        "entropy": {name: entropy(_untrained(name, seeds)) for name in (ORIGINAL, "LSA temperature doubled")},
        "temperature": {
            name: np.exp(runs[name].averages["encoder"]["blocks"]["attention"]["temperature"])
            / np.exp(_untrained(name, seeds)["encoder"]["blocks"]["attention"]["temperature"])
            for name in (SYNCHRONISED, "synchronised, adaLN normal")
        },
        "detection": {name: detected(runs[name].averages, seeds) for name in (ORIGINAL, SYNCHRONISED)},
        "live": {
            name: {str(every): spoken(runs[name].logged["condition_gap"], every) for every in LIVE}
            for name in (ORIGINAL, SYNCHRONISED)
        },
        "null_layer": null_layer(),
        "gates": gates(seeds),
        "idle_adamw": idle_adamw(),
        "accumulation": accumulation(),
    }


def layer_norm() -> dict[str, Any]:
    """A fresh LayerNorm with scale and bias against one without: are output and input gradient the same bits?

    And the defaults of Flax.
    """
    x, g = (jax.random.normal(jax.random.key(seed), (16, 32)) for seed in (0, 1))
    with_scale, without = (nnx.LayerNorm(32, use_scale=use, use_bias=use, rngs=nnx.Rngs(0)) for use in (True, False))
    (y, back), (z, forth) = jax.vjp(with_scale, x), jax.vjp(without, x)
    defaults = {"nnx": inspect.signature(nnx.LayerNorm.__init__).parameters["use_scale"].default}
    return {
        "same_output": bool((y == z).all()),
        "same_gradient": bool((back(g)[0] == forth(g)[0]).all()),
        "use_scale_by_default": {**defaults, "linen": linen.LayerNorm().use_scale},
    }


def idle_adamw() -> dict[str, float]:
    """How far AdamW moves a parameter of 1 that gets no gradient, in 1000 steps at the seed's rate, by weight decay."""

    def moved(decay: float) -> float:
        tx = optax.adamw(1e-4, weight_decay=decay)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            updates, state = tx.update(jnp.zeros(1), carry[1], carry[0])
            return (carry[0] + updates, state), None

        start = jnp.ones(1)
        return float(jax.lax.scan(step, (start, tx.init(start)), None, length=1000)[0][0][0] - 1)

    return {"0": moved(0.0), "0.01": moved(0.01)}


def null_layer() -> dict[str, float]:
    """Gradient norms of the context's Dense layer where its input is zeros."""
    layer = nnx.Linear(32, 32, rngs=nnx.Rngs(0))
    found = nnx.grad(lambda layer: jnp.square(layer(jnp.zeros((4, 32))) - 1).mean())(layer)
    return {"kernel": float(jnp.linalg.norm(found.kernel[...])), "bias": float(jnp.linalg.norm(found.bias[...]))}


def gates(seeds: Sequence[int], rate: float = 0.1) -> list[list[float]]:
    """Gradient norm of all gates and modulations of the original's blocks, before and after one step of plain descent;
    one row per seed.
    """
    held_out, untrained = balanced_sets(digits().validation, repeats=1, set_size=7), _untrained(ORIGINAL, seeds)
    found = []
    for number in range(len(seeds)):
        params, row = _of(untrained, number), []
        for _ in range(2):
            _, gradient = _gradient(MODEL, params, held_out, LEVELS[3])
            row.append(float(optax.tree.norm(gradient["dit"]["blocks"]["adaln"])))
            params = jax.tree.map(lambda leaf, own: leaf - rate * own, params, gradient)
        found.append(row)
    return found


def accumulation(steps: int = 400) -> dict[str, Any]:
    """Displacement of 100 parameters under gradients that are noise about 0.1, relative to plain Adam's, and the share
    of steps at which Adam is given zeros.
    """
    tx = {name: training.optimizer(Knobs(accumulation=name)) for name in ("none", "apply_every", "multi_steps")}
    noise = 0.1 + jax.random.normal(jax.random.key(0), (steps, 100))

    def displacement(own: optax.GradientTransformation) -> float:
        def step(carry: Any, gradient: Array) -> tuple[Any, None]:
            updates, state = own.update(gradient, carry[1], carry[0])
            return (carry[0] + updates, state), None

        start = jnp.zeros(100)
        return float(jnp.linalg.norm(jax.lax.scan(step, (start, own.init(start)), noise)[0][0]))

    moved = {name: displacement(own) for name, own in tx.items()}
    gate = optax.apply_every(training.ACCUMULATED)
    given: Any
    state, zeros = gate.init(noise[0]), 0
    for gradient in noise[:40]:
        given, state = gate.update(gradient, state)
        zeros += not np.any(given)
    return {"displacement": {name: value / moved["none"] for name, value in moved.items()}, "zeros": zeros / 40}


def by_level(params: Params) -> dict[str, Any]:
    """Held-out loss and gradient norm of all parameters by noise level, one row per seed."""
    held_out = balanced_sets(digits().validation, repeats=1, set_size=7)
    found = [
        [_gradient(MODEL, _of(params, seed), held_out, level) for level in LEVELS] for seed in range(_seeds(params))
    ]
    return {
        "levels": LEVELS,
        "loss": [[float(loss) for loss, _ in row] for row in found],
        "gradient": [[float(optax.tree.norm(gradient)) for _, gradient in row] for row in found],
    }


def by_block(params: Params, model: Knobs = MODEL) -> dict[str, Any]:
    """Gradient norm of each block's own parameters over that of the next block: a factor under 1 is attenuation.

    One row per seed, from the first block on, at a middle noise level.
    """
    held_out = balanced_sets(digits().validation, repeats=1, set_size=7)
    found: dict[str, list] = {"encoder": [], "dit": []}
    for seed in range(_seeds(params)):
        _, gradient = _gradient(model, _of(params, seed), held_out, LEVELS[3])
        for part, rows in found.items():
            squares = [
                jnp.square(leaf).reshape(len(leaf), -1).sum(1) for leaf in jax.tree.leaves(gradient[part]["blocks"])
            ]
            norms = np.sqrt(np.sum(squares, 0))
            rows.append(norms[:-1] / norms[1:])
    return found


def displacement(ended: Params, started: Params) -> dict[str, Any]:
    """How far each block's kernels moved over a training (root mean square), one row per seed."""
    found = {}
    for part in ("encoder", "dit"):
        moved = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), ended[part]["blocks"], started[part]["blocks"])
        kernels = [moved["mlp1"]["kernel"], moved["mlp2"]["kernel"]]
        squares = np.stack([np.square(kernel).mean((-2, -1)) for kernel in kernels])
        found[part] = np.sqrt(squares.mean(0))
    return found


def entropy(params: Params) -> Float[ndarray, " seed"]:
    """Normalised attention entropy in the encoder's first block, over the visible keys."""
    others = jnp.asarray(balanced_sets(digits().validation, repeats=1, set_size=7))[:, :6]
    found = []
    for seed in range(_seeds(params)):
        encoder = training.bind(MODEL, _of(params, seed)).encoder
        x = encoder.to_patch_embedding(others)
        cls = jnp.broadcast_to(encoder.cls_token[...], (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([cls, jnp.zeros_like(cls), x], 1) + encoder.pos_embedding[...]
        graph, stacked = nnx.split(encoder.blocks)
        block: Any = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[0], stacked))
        q, k, _ = (
            part.reshape(*x.shape[:2], MODEL.heads, -1).swapaxes(1, 2)
            for part in jnp.split(block.attention.to_qkv(block.norm1(x)), 3, -1)
        )
        visible = ~jnp.eye(x.shape[1], dtype=bool)
        scale = float(jnp.exp(block.attention.temperature[...]))
        found.append(float(attention_entropy_qk(q, k, scale=scale, mask=visible).mean()))
    return np.array(found)


def detected(params: Params, seeds: Sequence[int], rows: int = 300) -> dict[str, Any]:
    """What the rule `condition-ignored` says of trained models, from the gap on `rows` fresh training batches.

    Returns:
        By seed: `fired_at` (rows until it speaks; None where it is silent) and `gap`, the mean.
    """
    found: dict[str, Any] = {"rows": rows, "fired_at": [], "gap": []}
    for number, seed in enumerate(seeds):
        fresh = sets(digits().train, seed, 100_000, num_sets=MODEL.batch_size, set_size=MODEL.sample_size + 1)
        gaps = _gaps(_of(params, number), np.stack([next(fresh) for _ in range(rows)]))
        found["fired_at"] += spoken(gaps[None])
        found["gap"].append(float(gaps.mean()))
    return found


def spoken(gaps: Float[ndarray, "seed step"], every: int = 1) -> list[int | None]:
    """Step at which `condition-ignored` speaks of the gaps of every `every`-th step; None where it is silent."""
    found = []
    for own in gaps:
        rows = [Row(step=t, site=RUN, values={"condition_gap": float(own[t])}) for t in range(0, len(own), every)]
        told = detect(rows, rules=(ConditionIgnored(),))
        found.append(told[0].detected if told else None)
    return found


@jax.jit
def _gaps(params: Params, batches: Float[Array, "row set image channel height width"]) -> Float[Array, " row"]:
    """Share of the loss that each set's own context saves against its neighbour's, same noise and levels."""

    def gap(given: tuple[Array, Array]) -> Array:
        number, batch = given
        system = training.bind(MODEL, params)
        context = training.contexts(system, batch)
        draws = training.draw(MODEL, jax.random.key(number), batch.shape, 0.0)
        own, other = (
            training.epsilon_loss(MODEL, system, batch, one, draws).mean() for one in (context, jnp.roll(context, 1, 0))
        )
        return (other - own) / own

    return jax.lax.map(gap, (jnp.arange(len(batches)), batches))


def _untrained(name: str, seeds: Sequence[int]) -> Params:
    return _fresh(arms.ALL[name], seeds)


def _fresh(arm: Knobs, seeds: Sequence[int]) -> Params:
    several = [experiment.initial(arm, experiment.model_of(arm), seed) for seed in seeds]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *several)


@partial(jax.jit, static_argnums=0)
def _gradient(
    model: Knobs, params: Params, held_out: Float[Array, "set image channel height width"], level: Array
) -> Any:
    """Loss and gradient at one noise level, with the same noise for all."""

    def loss_of(params: Params) -> Array:
        system = training.bind(model, params)
        noise = jax.random.normal(jax.random.key(1), held_out.shape)
        draws = Draws(jnp.full(len(held_out), level), noise, jnp.zeros(len(held_out), bool))
        return training.epsilon_loss(model, system, held_out, training.contexts(system, held_out), draws).mean()

    return jax.value_and_grad(loss_of)(params)


def _of(params: Params, seed: int) -> Params:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[seed]), params)


def _seeds(params: Params) -> int:
    return len(jax.tree.leaves(params)[0])
