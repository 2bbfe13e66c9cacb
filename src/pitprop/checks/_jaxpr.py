"""Which parts of a step's result differ from worker to worker, read from its jaxpr: nothing is computed."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

SUMS = ("psum", "pmax", "pmin", "pmean", "all_gather", "psum2", "psum_invariant", "all_gather_invariant")
"""Primitives after which all workers along their axis hold the same."""


def own_parts(step: Callable[..., Any], state: Any, batch: tuple, axis: str) -> list[str]:
    """Paths in the new state that depend on the batch (or on the worker's number) without a sum over `axis` between."""

    def new_state(state, *batch):
        result = step(state, *batch)
        return result[0] if type(result) is tuple else result

    closed, shape = jax.make_jaxpr(new_state, axis_env=[(axis, 2)], return_shape=True)(state, *batch)
    given = len(jax.tree.leaves(state))
    own = [i >= given for i in range(len(closed.jaxpr.invars))]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shape)]
    return [path for path, differs in zip(paths, _follow(closed.jaxpr, own, axis), strict=True) if differs]


def _follow(jaxpr: Any, own: Sequence[bool], axis: str) -> list[bool]:
    """Of each result of `jaxpr`, whether it differs between workers, given that of each argument."""
    differs = dict(zip(jaxpr.invars, own, strict=True))

    def of(variable: Any) -> bool:
        return not isinstance(variable, core.Literal) and differs.get(variable, False)

    for equation in jaxpr.eqns:
        given = [of(variable) for variable in equation.invars]
        differs.update(zip(equation.outvars, _results(equation, given, axis), strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _results(equation: Any, given: list[bool], axis: str) -> list[bool]:
    name, params, count = equation.primitive.name, equation.params, len(equation.outvars)
    over = params.get("axes", params.get("axis_name", ()))
    if axis in (over if isinstance(over, tuple | list) else (over,)):
        # Summed over some groups only, workers of different groups still differ.
        if name in SUMS and params.get("axis_index_groups") is None:
            return [False] * count
        if name == "axis_index":
            return [True] * count
    if name == "scan":
        return _scan(params, given, axis)
    if name == "cond":
        branches = [_follow(branch.jaxpr, given[1:], axis) for branch in params["branches"]]
        return [given[0] or any(several) for several in zip(*branches, strict=True)]
    inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
    inner = getattr(inner, "jaxpr", inner)
    if inner is not None and len(inner.invars) == len(given) and len(inner.outvars) == count:
        return _follow(inner, given, axis)
    return [any(given)] * count  # whatever it is, it adds nothing of its own


def _scan(params: dict, given: list[bool], axis: str) -> list[bool]:
    """The carry may come to differ in a later round, so the body is followed until nothing changes."""
    first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
    while True:
        results = _follow(params["jaxpr"].jaxpr, given, axis)
        carry = [a or b for a, b in zip(given[first:last], results, strict=False)]
        if carry == given[first:last]:
            return results
        given = [*given[:first], *carry, *given[last:]]
