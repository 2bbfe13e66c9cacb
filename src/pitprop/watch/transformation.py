"""What an optimizer in the form of optax does, measured inside of its own state: `pitprop.optax.watch`.

The state carries one small table, a row per array of parameters, of one shape from `init` on. Nothing leaves the
compiled step by itself: whoever holds the new state may read it, and a session (`watch/jax.py`) does on measured steps.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from pitprop._array import accumulate, norm
from pitprop.indicators import gradient_share, zero_gradient_share
from pitprop.watch._pytree import named_leaves
from pitprop.watch.histogram import NAME, NUM_BUCKETS, magnitudes
from pitprop.watch.sites import ROOT

NOT_GIVEN = -1.0
"""In place of a norm: no NaN, which an array may have, and no metadata, which would change with the first update."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["norms", "histograms"], meta_fields=["names", "sizes"]
)
@dataclass(frozen=True)
class Table:
    """Norms of every array of parameters."""

    norms: Float[jax.Array, "array 3"]
    """Of the gradient, of the update, and of the parameters before it; `NOT_GIVEN` where there was no such array."""
    histograms: Int[jax.Array, "array bucket"]
    """Of the gradient's magnitudes; without rows where none were asked for."""
    names: tuple[str, ...]
    """Dotted names of the arrays."""
    sizes: tuple[int, ...]
    """Their numbers of entries."""


class WatchState(NamedTuple):
    """State of `watch`: that of the transformation inside, and what was measured last."""

    inner_state: Any
    num_updates: Int[jax.Array, ""]
    """Updates that were made."""
    table: Table


def watch(
    inner: optax.GradientTransformation | None = None, *, histograms: bool = False
) -> optax.GradientTransformationExtraArgs:
    """`inner` as it is, with the norms of its gradients, updates and parameters kept in its state.

    Gradients are those that it is given, updates those that it returns: around the whole optimizer
    (`watch(optax.chain(clip, adamw))`) gradients are seen before clipping, and updates as they are applied. Under
    gradient accumulation put it inside, `optax.MultiSteps(watch(adamw), 8)`, where it sees the mean gradient once.

    Every update is measured: a condition in the compiled step was seen to change how XLA rounds the rest of it. The
    cost is two passes over gradients, updates and parameters. Without `params` there is no update ratio and no weight.

    Args:
        inner: The transformation to watch; without one, a link of a chain that sees what passes it, and no updates.
        histograms: Also count the gradients' entries by magnitude (`watch/histogram.py`), two dozen passes over them. A
            session writes them down at about a dozen steps in the life of a run.

    Returns:
        A transformation whose updates are those of `inner`, bit for bit.
    """
    tx = optax.with_extra_args_support(optax.identity() if inner is None else inner)

    def init(params: Any) -> Any:
        arrays = _arrays(params)
        table = Table(
            norms=jnp.full((len(arrays), 3), NOT_GIVEN, jnp.float32),
            histograms=jnp.zeros((len(arrays) * histograms, NUM_BUCKETS), jnp.int32),
            names=tuple(arrays),
            sizes=tuple(int(np.prod(leaf.shape)) for leaf in arrays.values()),
        )
        return WatchState(tx.init(params), jnp.zeros((), jnp.int32), table)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        new, inner_state = tx.update(updates, state.inner_state, params, **extra)
        # Without the barrier XLA may fuse the norms with what they are taken of, and round that otherwise.
        trees = jax.lax.optimization_barrier((updates, None if inner is None else new, params))
        norms = jnp.stack([_norms(tree, state.table.names) for tree in trees], axis=1)
        counts = _counts(trees[0], state.table.names) if histograms else state.table.histograms
        table = dataclasses.replace(state.table, norms=norms, histograms=counts)
        return new, WatchState(inner_state, state.num_updates + 1, table)

    return optax.GradientTransformationExtraArgs(init, update)


def states_in(tree: Any) -> list[WatchState]:
    """Every `WatchState` in a pytree, such as an optimizer's state or all that a step returns; none inside another."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, WatchState))
    return [leaf for leaf in leaves if isinstance(leaf, WatchState)]


def by_site(norms: Float[np.ndarray, "array 3"], names: Sequence[str], sizes: Sequence[int]) -> dict:
    """`{indicator: {site: value}}` of a table on the host; a site is the module that owns the arrays.

    Biases and embeddings are not asked whether their gradient is exactly zero, as in torch (`watch/zero_gradients.py`).
    """
    given = norms != NOT_GIVEN
    gradients, changes, weights = np.where(given, norms, np.nan).astype(np.float64).T
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name.rpartition(".")[0] or ROOT, []).append(row)
    squared = {site: _length(gradients[at]) for site, at in rows.items()}
    shares = gradient_share(np.asarray(list(squared.values())))
    asked = {site: [row for row in at if not _excused(names[row])] for site, at in rows.items()}
    alive = bool((gradients > 0).any())
    numbers = np.asarray(sizes, np.float64)
    found: dict[str, Mapping[str, float]] = {
        "gradient_norm": squared,
        "gradient_share": dict(zip(rows, shares.tolist(), strict=True)),
        "zero_gradient_share": {
            site: float(zero_gradient_share(gradients[at], numbers[at])) if alive else float("nan")
            for site, at in asked.items()
            if at
        },
        "update_ratio": {
            site: _ratio(_length(changes[at]), _length(weights[at]))
            for site, at in rows.items()
            if given[at, 1:].any(axis=0).all()
        },
        "weight_rms": {
            site: _length(weights[at]) / float(np.sqrt(numbers[at].sum()))
            for site, at in rows.items()
            if given[at, 2].any()
        },
    }
    return {indicator: sites for indicator, sites in found.items() if sites}


def histograms_by_site(
    counts: Int[np.ndarray, "array bucket"], names: Sequence[str]
) -> list[tuple[str, str, Int[np.ndarray, " bucket"]]]:
    """`(site, name, counts)` of each module, from a table on the host."""
    found: dict[str, np.ndarray] = {}
    for name, own in zip(names, counts, strict=False):  # without rows where none were asked for
        site = name.rpartition(".")[0] or ROOT
        found[site] = found.get(site, 0) + own
    return [(site, NAME, own) for site, own in found.items()]


def _arrays(params: Any) -> dict[str, Any]:
    """Trainable arrays by name; integers and random keys are none."""
    return {name: leaf for name, leaf in named_leaves(params) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)}


def _norms(tree: Any, names: Sequence[str]) -> Float[jax.Array, " array"]:
    found = dict(named_leaves(tree))
    lengths = [_norm(found[name]) if name in found else jnp.asarray(NOT_GIVEN, jnp.float32) for name in names]
    return jnp.stack(lengths) if lengths else jnp.zeros((0,), jnp.float32)


def _counts(tree: Any, names: Sequence[str]) -> Int[jax.Array, "array bucket"]:
    found = dict(named_leaves(tree))
    none = jnp.zeros(NUM_BUCKETS, jnp.int32)
    return jnp.stack([magnitudes(found[name]).astype(jnp.int32) if name in found else none for name in names])


def _norm(leaf: jax.Array) -> Float[jax.Array, ""]:
    leaf = jnp.abs(leaf) if jnp.iscomplexobj(leaf) else leaf
    return norm(accumulate(leaf)).astype(jnp.float32)


def _length(norms: np.ndarray) -> float:
    """Norm of several arrays together; hypot neither over- nor underflows."""
    return float(np.hypot.reduce(norms))


def _ratio(change: float, weight: float) -> float:
    return change / weight if weight else float("nan")


def _excused(name: str) -> bool:
    last = name.rpartition(".")[2]
    return "bias" in last or last in ("b", "embedding")
