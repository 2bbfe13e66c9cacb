"""What the checks ask of a jax training: one pure step, its state, and a few batches.

Gradients are those that the step hands to its gradient transformation: in place of it goes one that keeps their
magnitudes as its own state and changes nothing. So nothing is known of the model but its step.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pitprop._errors import PitpropError
from pitprop.checks import CHECKS
from pitprop.checks._check import ROOT, Check, found
from pitprop.checks._run import NOT_RUN, ask
from pitprop.checks._wake import NUDGE, ROUNDS, Waking
from pitprop.records import Finding
from pitprop.watch._pytree import named_leaves

ASKED = ("dead-zero-chain", "no-gradient", "unsynchronised-replicas", "unused-input")
"""Checks with an `of_jax`; the others look into modules or optimizers of torch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JaxSubject:
    """A jax training before its first step."""

    step: Callable[..., tuple[Any, Any]]
    """`(state, batch, tx) -> (state, metrics)`, pure."""
    state: dict[str, Any]
    """Dict with `params`, `opt_state` and whatever else the step carries."""
    tx: Any
    batches: tuple[Any, ...]
    _compiled: list = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, jax.Array]:
        """Trainable leaves by name."""
        leaves = named_leaves(self.state["params"])
        return {name: leaf for name, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)}

    def ask(self, changed: dict[str, jax.Array], batch: Any) -> tuple[dict[str, bool], dict[str, np.ndarray]]:
        """Which parameters get a gradient from `batch` with those in `changed` put in place, and the step's metrics.

        Raises:
            PitpropError: The step does not use the transformation that it is given.
        """
        if not self._compiled:
            self._compiled.append(jax.jit(self._spied))
        calls, alive, metrics = self._compiled[0](self._with(changed), batch)
        if not int(calls):
            raise PitpropError(
                "the step does not use the gradient transformation that it is given",
                means="Its gradients can't be seen, and no change of gradients or updates can act.",
                do="call `tx.update(gradients, state['opt_state'], state['params'])` in `step(state, batch, tx)`.",
                read="docs/interventions.md",
            )
        names = [name for name, _ in named_leaves(self.state["params"])]
        seen = dict(zip(names, map(bool, alive), strict=True))
        return {name: seen[name] for name in self.parameters}, {n: np.asarray(v) for n, v in named_leaves(metrics)}

    def _with(self, changed: dict[str, jax.Array]) -> Any:
        named = named_leaves(self.state["params"])
        return jax.tree.unflatten(
            jax.tree.structure(self.state["params"]), [changed.get(name, leaf) for name, leaf in named]
        )

    def _spied(self, params: Any, batch: Any) -> tuple[Any, list, Any]:
        nothing = {"calls": jnp.zeros((), jnp.int32), "size": jax.tree.map(jnp.zeros_like, params)}

        def update(gradients: Any, seen: Any, params: Any = None, **_: Any) -> tuple[Any, Any]:
            size = jax.tree.map(
                lambda s, g: s if g is None else s + jnp.abs(g).astype(s.dtype), seen["size"], gradients
            )
            return jax.tree.map(jnp.zeros_like, gradients), {"calls": seen["calls"] + 1, "size": size}

        spy = SimpleNamespace(init=lambda params: nothing, update=update)
        state, metrics = self.step({**self.state, "params": params, "opt_state": nothing}, batch, spy)
        seen = state["opt_state"]
        return seen["calls"], [jnp.any(leaf != 0) for leaf in jax.tree.leaves(seen["size"])], metrics


def gradients_of(subject: JaxSubject, changed: dict[str, jax.Array]) -> set[str]:
    """Parameters with a non-zero gradient on any batch."""
    return {name for batch in subject.batches for name, alive in subject.ask(changed, batch)[0].items() if alive}


def nudged(subject: JaxSubject, names: Iterable[str], size: float = NUDGE) -> dict[str, jax.Array]:
    """Parameters called `names` with small noise added."""
    rng = np.random.default_rng(0)
    own = subject.parameters
    return {n: own[n] + jnp.asarray(size * rng.standard_normal(own[n].shape), own[n].dtype) for n in names}


def zero_parameters(subject: JaxSubject) -> list[str]:
    """Those that are all zero."""
    return [name for name, p in subject.parameters.items() if p.size and not bool((p != 0).any())]


def wake(subject: JaxSubject) -> tuple[Waking, dict[str, jax.Array]]:
    """The fixpoint of `_wake`, over a pytree; and the zero parameters that it nudged."""
    zero = zero_parameters(subject)
    orders: dict[str, int] = {}
    changed: dict[str, jax.Array] = {}
    for order in range(ROUNDS):
        alive = gradients_of(subject, changed)
        new = [name for name in subject.parameters if name in alive and name not in orders]
        orders.update(dict.fromkeys(new, order))
        moving = [name for name in new if name in zero]
        if not moving:
            break
        changed |= nudged(subject, moving)
    silent = [name for name in subject.parameters if name not in orders]
    return Waking(orders, zero, silent, []), changed


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray], tolerance: float = 3e-4) -> bool:
    """Whether a metric changed by more than `tolerance`, relatively (by default the root of float32's resolution)."""
    return any(
        not np.allclose(np.float64(old), np.float64(after[name]), rtol=tolerance, atol=0, equal_nan=True)
        for name, old in before.items()
    )


def run_jax(subject: JaxSubject, allow: Iterable[str] = ()) -> list[Finding]:
    """Findings of every check that can be asked of a jax step."""
    asked = [_JaxEntry(entry.name, entry.where) for entry in CHECKS if entry.name in ASKED]
    known = tuple(entry.name for entry in CHECKS)
    left = [name for name in known if name not in ASKED]
    why = f"{', '.join(left)}: not asked, for a jax step has no modules to look into."
    return ask(asked, subject, allow, known, [found(NOT_RUN, "note", ROOT, why)])


@dataclass(frozen=True, slots=True)
class _JaxEntry:
    name: str
    where: str

    def load(self) -> Check:
        return SimpleNamespace(name=self.name, needs=(), run=importlib.import_module(self.where).of_jax)  # type: ignore[return-value]
