"""How interventions act on a jax training: on leaves of its parameters by path, and around its transformation.

jax is imported where it is used: this file is loaded with every intervention, for torch too.
"""

from collections.abc import Callable
from typing import Any

from pitprop._errors import PitpropError, nearest
from pitprop.trials.interventions._targets import Applied, is_under

Tree = Any


def leaves_at(training: Any, pattern: str) -> tuple[tuple[str, ...], Tree]:
    """Parameters at or under `pattern`: their paths, and a pytree of bools in the shape of the parameters.

    Raises:
        PitpropError: Nothing matches; the nearest paths are named.
    """
    import jax

    from pitprop.trials.jax import named_leaves

    params = training.tree["params"]
    names = [name for name, _ in named_leaves(params)]
    found = [is_under(name, pattern) for name in names]
    if not any(found):
        above = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 1)}
        raise PitpropError(f"No parameter is at or under `{pattern}`: {nearest(pattern, [*names, *sorted(above)])}")
    mask = jax.tree.unflatten(jax.tree.structure(params), found)
    return tuple(name for name, hit in zip(names, found, strict=True) if hit), mask


def where(mask: Tree, change: Callable[[Any], Any], tree: Tree) -> Tree:
    """`tree` with `change` made at the leaves that `mask` marks."""
    import jax

    return jax.tree.map(lambda hit, leaf: change(leaf) if hit else leaf, mask, tree)


def wrap(
    training: Any,
    applied: Applied,
    *,
    before: Callable[[Tree], Tree] = lambda gradients: gradients,
    after: Callable[[Tree], Tree] = lambda updates: updates,
) -> Applied:
    """Change the gradients before the training's transformation, and its updates after; counted where it is used.

    Uses are counted when the step is traced: one that never asks the transformation that it was given never acted.
    """
    from pitprop.trials.jax import Transformation

    inner = training.tx

    def update(gradients: Tree, state: Tree, params: Tree = None, **more: Any) -> tuple[Tree, Tree]:
        if not applied.conditional:
            applied.calls.update(applied.paths)
        updates, state = inner.update(before(gradients), state, params, **more)
        return after(updates), state

    training.tx = Transformation(inner.init, update)
    applied.means = "The step does not use the `tx` that it is given, so the arm was another control."
    applied.do = "call `tx.update` of the step's third argument, not of another transformation."
    return applied


def forget(training: Any, mask: Tree | None) -> bool:
    """Set the optimizer state of the marked parameters (None: all of it) to what it is at the start.

    Parts of the state that have the structure of the parameters are theirs, leaf by leaf; step counts, which all
    parameters share, are reset with all of them only.

    Returns:
        Whether anything changed.
    """
    import jax
    import jax.numpy as jnp

    params, old = training.tree["params"], training.tree["opt_state"]
    shape = jax.tree.structure(params)
    new = fresh = training.tx.init(params)
    if mask is not None:

        def is_theirs(node: Any) -> bool:
            return jax.tree.structure(node) == shape

        def reset(was: Any, start: Any) -> Any:
            return jax.tree.map(lambda hit, a, b: b if hit else a, mask, was, start) if is_theirs(was) else was

        new = jax.tree.map(reset, old, fresh, is_leaf=is_theirs)
    new = jax.tree.map(lambda start, was: jnp.asarray(start, was.dtype), new, old)
    training.tree = {**training.tree, "opt_state": new}
    return any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))
