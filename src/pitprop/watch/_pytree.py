"""Names of what lies in a pytree."""

from typing import Any

import jax


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves of `tree` with their dotted names, as in `dense.kernel` or `layers.0.w`.

    A variable of Flax nnx has the name of its place, without the `.value` that lies in it.
    """
    return [(_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _name(path: tuple[Any, ...]) -> str:
    if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator=".")
