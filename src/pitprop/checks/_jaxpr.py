"""Which parts of a step's result differ from worker to worker, read from its jaxpr: nothing is computed."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

from pitprop.watch._pytree import named_leaves

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


SAME, BATCH, OWN = range(3)
"""Of a value outside of any mapping: knows nothing of the batch; depends on it; is another one on each worker."""
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "dot_general")
"""Primitives that may bring the workers' results together where they lie in one array."""


def differing_parts(step: Callable[..., Any], state: Any, batch: Any) -> list[str]:
    """Paths in the new state that a mapped part of `step(state, batch)` computes from each worker's own batch alone."""
    closed, shape = jax.make_jaxpr(step, return_shape=True)(state, batch)
    given = len(jax.tree.leaves(state))
    grades = [BATCH if i >= given else SAME for i in range(len(closed.jaxpr.invars))]
    results = _grade(closed.jaxpr, grades)
    names = [name for name, _ in named_leaves(shape)]
    return [name for name, grade in zip(names, results, strict=True) if grade == OWN]


def _grade(jaxpr: Any, given: Sequence[int]) -> list[int]:
    grades = dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> int:
        return SAME if isinstance(variable, core.Literal) else grades.get(variable, SAME)

    for equation in jaxpr.eqns:
        inputs = [of(variable) for variable in equation.invars]
        params, highest = equation.params, max(inputs, default=SAME)
        inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
        inner = getattr(inner, "jaxpr", inner)
        if equation.primitive.name == "shard_map":
            own = [grade >= BATCH for grade in inputs]
            apart = [
                any(several)
                for several in zip(*(_follow(inner, own, a) for a in params["mesh"].axis_names), strict=True)
            ]
            found = [OWN if differs else min(highest, BATCH) for differs in apart]
        elif equation.primitive.name in REDUCTIONS:
            found = [min(highest, BATCH)] * len(equation.outvars)
        elif inner is not None and len(inner.invars) == len(inputs) and len(inner.outvars) == len(equation.outvars):
            found = _grade(inner, inputs)
        else:
            found = [highest] * len(equation.outvars)
        grades.update(zip(equation.outvars, found, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


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
