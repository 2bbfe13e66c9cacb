"""A training in jax, as trials drive it: one pytree of state, and one pure step that is compiled here.

    def build(seed, knobs):
        return JaxTraining(
            seed=seed,
            init=lambda seed: init_params(jax.random.key(seed)),          # pytree of arrays
            tx=optax.adamw(knobs.lr),                                      # or any pair of `init` and `update`
            step=step,                                                     # (state, batch, tx) -> (state, metrics)
            batches=lambda cursor: batches(seed, cursor),                  # endless, the same at the same cursor
            evaluate=lambda state: {"accuracy": accuracy(state["params"])},
            extra={"key": jax.random.key(seed + 1)},                       # whatever else the step carries along
        )

    def step(state, batch, tx):
        loss, gradients = jax.value_and_grad(loss_of)(state["params"], batch)
        updates, opt_state = tx.update(gradients, state["opt_state"], state["params"])
        params = jax.tree.map(jnp.add, state["params"], updates)
        return {**state, "params": params, "opt_state": opt_state}, {"loss": loss}

The step takes the gradient transformation as an argument, and that is where interventions get in: they wrap it. A step
that uses another one is found out, because the change then never acted. Everything random must come from a key in
`extra`, or from the cursor.

A step at the top of the module with a transformation that is made once per setting (`functools.cache` on what makes it)
is compiled once per worker. Closures are compiled in every run, and so is a transformation that an arm wraps. Trials
keep their snapshots as torch files, so torch is needed beside jax.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pitprop._errors import PitpropError
from pitprop.watch._pytree import named_leaves

Tree = Any
"""A pytree of arrays."""

Step = Callable[[dict[str, Tree], Any, Any], tuple[dict[str, Tree], Mapping[str, Any]]]
"""`(state, batch, tx) -> (state, metrics)`, pure."""


class Transformation(NamedTuple):
    """A gradient transformation in the form of optax, for those who write one themselves."""

    init: Callable[[Tree], Tree]
    """`init(params) -> opt_state`."""
    update: Callable[..., tuple[Tree, Tree]]
    """`update(gradients, opt_state, params) -> (updates, opt_state)`; updates are added to the parameters."""


class JaxTraining:
    """A jax training that trials can build, step, fork and change. See the head of this file.

    Args:
        seed: Seed of the initial parameters.
        init: `init(seed) -> params`, a pytree of arrays.
        tx: Gradient transformation: optax's, or a `Transformation`.
        step: `step(state, batch, tx) -> (state, metrics)`, pure; `state` is a dict with `params`, `opt_state` and the
            keys of `extra`.
        batches: `batches(cursor)`, endless.
        evaluate: `evaluate(state) -> metrics` on held-out data.
        extra: Further state, such as a random key or an average of the parameters.
    """

    def __init__(
        self,
        *,
        seed: int,
        init: Callable[[int], Tree],
        tx: Any,
        step: Step,
        batches: Callable[[int], Iterator[Any]],
        evaluate: Callable[[dict[str, Tree]], Mapping[str, Any]],
        extra: Mapping[str, Tree] | None = None,
    ):
        self.init, self.batches, self.tx = init, batches, tx
        self._evaluate = evaluate
        # jax keeps what it compiled by the function and the transformation, so equal ones are compiled once.
        self.pure_step, self._compiled = step, jax.jit(step, static_argnums=2)
        params = init(seed)
        # A weak type (a python number) would be a strong one after a fork, and compute otherwise.
        self.tree = jax.tree.map(_strong, {"params": params, "opt_state": tx.init(params), **(extra or {})})

    def use(self, tx: Any) -> None:
        """Go on with the gradient transformation `tx`, whose state is new."""
        self.tx = tx
        self.tree = {**self.tree, "opt_state": jax.tree.map(_strong, tx.init(self.tree["params"]))}

    def step(self, batch: Any) -> Mapping[str, Any]:
        """One step; see `Training.step`."""
        self.tree, metrics = self.stepped(batch)
        return metrics

    def stepped(self, batch: Any) -> tuple[dict[str, Tree], Mapping[str, Any]]:
        """What a step would give: the next state and the metrics."""
        return self._compiled(self.tree, batch, self.tx)

    def evaluate(self) -> Mapping[str, Any]:
        """Metrics; see `Training.evaluate`."""
        jax.effects_barrier()  # what interventions count is counted by then
        return self._evaluate(self.tree)

    def state(self) -> dict[str, np.ndarray]:
        """Every leaf of the state by its dotted path, as numpy arrays."""
        return {path: _to_host(leaf) for path, leaf in named_leaves(self.tree)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put back what `state` gave.

        Raises:
            PitpropError: The leaves are others.
        """
        own = named_leaves(self.tree)
        missing = next((path for path, leaf in own if path not in state or state[path].shape != _shape(leaf)), None)
        if missing is not None or len(own) != len(state):
            raise PitpropError(
                f"The snapshot does not fit the training at `{missing or (set(state) - {p for p, _ in own}).pop()}`.",
                means="They were not built by the same recipe with the same knobs.",
                do="delete the folder's `forks` and start again.",
            )
        leaves = [_to_device(state[path], leaf) for path, leaf in own]
        self.tree = jax.tree.unflatten(jax.tree.structure(self.tree), leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _strong(leaf: Any) -> jax.Array:
    array = jnp.asarray(leaf)
    return array if _is_key(array) else jnp.asarray(np.asarray(array))


def _to_host(leaf: jax.Array) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    # numpy and torch have no bfloat16 in common: such types travel as the bits that they are.
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _shape(leaf: jax.Array) -> tuple[int, ...]:
    return jax.random.key_data(leaf).shape if _is_key(leaf) else leaf.shape


def _to_device(array: np.ndarray, like: jax.Array) -> jax.Array:
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return jax.device_put(np.asarray(array).view(like.dtype), like.sharding)
