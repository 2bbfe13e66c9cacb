"""Which parts of a step's result differ from worker to worker, read from its jaxpr: nothing is computed.

Every value has a set of marks. What is computed has those of all that it is computed from, through loops and branches;
a rule says of which primitives this doesn't hold. Inside of a mapping (`shard_map`, `pmap`) marks speak of one axis of
its mesh at a time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.extend import core

from pitprop.watch._pytree import named_leaves

Marks = frozenset[Any]
Rule = Callable[[Any, list[Marks]], list[Marks] | None]
"""`(equation, marks of its inputs) -> marks of its results`, or None where it is a computation like any other."""

NONE: Marks = frozenset()
OWN, NUMBER, MOVED = "own", "number", "moved"
"""Inside of a mapping: from the worker's own share of the batch; from its number on the axis, or from what others hold
there; handed from worker to worker in a way that can't be judged.
"""
SUMS = (
    *("psum", "psum_invariant", "unreduced_psum", "pmax", "pmin", "reduce_scatter", "unreduced_reduce_scatter"),
    *("all_gather", "all_gather_invariant", "all_gather_reduced", "pbroadcast"),
)
"""Primitives after which no worker along their axis has a share of its own (`pmean` is a `psum`)."""
EXCHANGES = ("all_to_all", "ragged_all_to_all")
MOVES = ("ppermute", "psend", "precv")

BATCH = ("batch", "")
APART, STACKED = "apart", "stacked"
"""Outside, with the name of an axis: another value on each worker though it is taken for one; the workers' own values
side by side in one array.
"""
REDUCTIONS = (
    *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
    *("argmax", "argmin", "dot_general"),
)
"""Primitives that may bring the workers' results together where they lie in one array."""


def own_parts(step: Callable[..., Any], state: Any, batch: tuple, axis: str) -> list[str]:
    """Paths in the new state that depend on the batch (or on the worker's number) without a sum over `axis` between."""

    def new_state(state, *batch):
        result = step(state, *batch)
        return result[0] if type(result) is tuple else result

    closed, shape = jax.make_jaxpr(new_state, axis_env=[(axis, 2)], return_shape=True)(state, *batch)
    results = _follow(closed.jaxpr, _given(closed, state, OWN), partial(_between_workers, axis))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shape)]
    return [path for path, marks in zip(paths, results, strict=True) if marks and MOVED not in marks]


def differing_parts(step: Callable[..., Any], state: Any, batch: Any) -> list[str]:
    """Paths in the new state that a mapped part of `step(state, batch)` computes from each worker's own batch alone."""
    closed, shape = jax.make_jaxpr(step, return_shape=True)(state, batch)
    results = _follow(closed.jaxpr, _given(closed, state, BATCH), _outside)
    names = [name for name, _ in named_leaves(shape)]
    return [name for name, marks in zip(names, results, strict=True) if marks - {BATCH}]


def _given(closed: Any, state: Any, mark: Any) -> list[Marks]:
    """Nothing for the leaves of the state, `mark` for those of the batch behind them."""
    num_state = len(jax.tree.leaves(state))
    return [NONE] * num_state + [frozenset({mark})] * (len(closed.jaxpr.invars) - num_state)


def _outside(equation: Any, given: list[Marks]) -> list[Marks] | None:
    """The rule outside of any mapping."""
    name = equation.primitive.name
    if name == "shard_map":
        return _mapped(equation.params, given)
    if name in REDUCTIONS:
        apart = frozenset(mark for mark in NONE.union(*given) if mark[0] == APART)
        return [apart] * len(equation.outvars)
    return None


def _mapped(params: dict, given: list[Marks]) -> list[Marks]:
    """What a mapping returns: each worker had its own share of the batch only along axes that the batch is cut over."""
    axes, specs = params["mesh"].axis_names, params["out_specs"]
    beside = frozenset(mark for mark in NONE.union(*given) if mark != BATCH and mark[1] not in axes)
    found = [set(beside) for _ in specs]
    for axis in axes:

        def share(marks: Marks, spec: Any, axis: str = axis) -> Marks:
            cut = axis in _named(spec) and not marks.isdisjoint({BATCH, (STACKED, axis)})
            return frozenset({OWN}) if cut or (APART, axis) in marks else NONE

        shares = list(map(share, given, params["in_specs"]))
        results = _follow(_inner(params), shares, partial(_between_workers, axis))
        for marks, spec, own in zip(results, specs, found, strict=True):
            if MOVED in marks:
                continue
            if axis not in _named(spec):
                own |= {(APART, axis)} if marks else set()
            elif OWN in marks:  # what only follows its number there is a part of one whole
                own.add((STACKED, axis))
    return list(map(frozenset, found))


def _named(spec: Any) -> set[str]:
    """Axes of the mesh that a `PartitionSpec` cuts an array over."""
    return {name for entry in spec for name in (entry if isinstance(entry, tuple) else (entry,))}


def _between_workers(axis: str, equation: Any, given: list[Marks]) -> list[Marks] | None:
    """The rule inside of a mapping over `axis`."""
    name, params = equation.primitive.name.removesuffix("_start"), equation.params
    over = params.get("axes", params.get("axis_name", ()))
    if axis not in (over if isinstance(over, tuple | list) else (over,)):
        return None
    if name == "axis_index":
        marks = frozenset({NUMBER})
    elif not any(given):
        marks = NONE
    elif name in SUMS and params.get("axis_index_groups") is None:
        marks = NONE
    elif name in EXCHANGES and params.get("axis_index_groups") is None:
        marks = NONE.union(*given) - {OWN} | {NUMBER}
    elif name in SUMS + EXCHANGES + MOVES:
        marks = frozenset({MOVED})  # several together may make a sum, as in a ring
    else:
        return None
    return [marks] * len(equation.outvars)


def _follow(jaxpr: Any, given: Sequence[Marks], rule: Rule) -> list[Marks]:
    """Marks of each result of `jaxpr`, given those of each argument."""
    marks = dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> Marks:
        return NONE if isinstance(variable, core.Literal) else marks.get(variable, NONE)

    for equation in jaxpr.eqns:
        inputs = [of(variable) for variable in equation.invars]
        found = rule(equation, inputs)
        marks.update(zip(equation.outvars, _through(equation, inputs, rule) if found is None else found, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _through(equation: Any, given: list[Marks], rule: Rule) -> list[Marks]:
    name, params, count = equation.primitive.name, equation.params, len(equation.outvars)
    if name == "scan":
        consts, end = params["num_consts"], params["num_consts"] + params["num_carry"]
        return _rounds(params["jaxpr"].jaxpr, given[:consts], given[consts:end], given[end:], rule)[1]
    if name == "while":
        asked, consts = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        carry, _ = _rounds(params["body_jaxpr"].jaxpr, given[asked:consts], given[consts:], [], rule)
        [until] = _follow(params["cond_jaxpr"].jaxpr, [*given[:asked], *carry], rule)
        return [marks | until for marks in carry]
    if name == "cond":
        branches = [_follow(branch.jaxpr, given[1:], rule) for branch in params["branches"]]
        return [given[0].union(*several) for several in zip(*branches, strict=True)]
    inner = _inner(params)
    if inner is not None and len(inner.invars) == len(given) and len(inner.outvars) == count:
        return _follow(inner, given, rule)
    return [NONE.union(*given)] * count  # whatever it is, it adds nothing of its own


def _inner(params: dict) -> Any:
    inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
    return getattr(inner, "jaxpr", inner)


def _rounds(
    body: Any, consts: list[Marks], carry: list[Marks], slices: list[Marks], rule: Rule
) -> tuple[list[Marks], list[Marks]]:
    """Carry and results of a loop. A mark may come in a later round, so it is followed until nothing changes."""
    while True:
        results = _follow(body, [*consts, *carry, *slices], rule)
        grown = [a | b for a, b in zip(carry, results, strict=False)]
        if grown == carry:
            return carry, results
        carry = grown
