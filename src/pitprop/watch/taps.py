"""Numbers from the inside of a pure function, handed out as one of its results: `collect`, `sow`, `tap`.

    def loss_of(params, batch):
        h = pitprop.optax.tap("blocks.0", block(params, batch))
        ...

    (loss, numbers), gradients = jax.value_and_grad(pitprop.optax.collect(loss_of), has_aux=True)(params, batch)

Where nobody collects, `sow` and `tap` do nothing at all.
"""

import functools
import inspect
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Float

from pitprop import indicators as of
from pitprop._errors import PitpropError

Numbers = dict[str, dict[str, Float[jax.Array, ""]]]
"""`{indicator: {site: scalar}}`."""

STREAM_BATCH, STREAM_TOKENS = 2, 32
"""Batch elements, and evenly spaced tokens, of a stream that are measured."""
PAGE = "docs/watch.md"


class _Collector(NamedTuple):
    numbers: Numbers
    trace: Any
    measure: Any


_open = threading.local()


def collect(function: Callable[..., Any], *, has_aux: bool = False) -> Callable[..., Any]:
    """`function`, which also returns what was sown in it: `(result, numbers)`, or `(result, (aux, numbers))`.

    Args:
        function: Pure; for `jax.value_and_grad(..., has_aux=True)` one that returns a loss.
        has_aux: It returns `(result, aux)`.

    The function returned takes one more argument at its end, `measure`: where it is false (traced or not) nothing is
    computed and the numbers are NaN.

    Raises:
        PitpropError: Something was sown inside of an inner transformation (`lax.scan`, `vmap`, `remat`), whose values
            can't leave it by themselves.
    """

    signature, place = _with_measure(function)

    @functools.wraps(function)
    def collected(*args: Any, measure: Any = True, **kwargs: Any) -> Any:
        if len(args) > place:
            args, measure = args[:-1], args[-1]
        with collecting(measure) as numbers:
            result = function(*args, **kwargs)
        return (result[0], (result[1], numbers)) if has_aux else (result, numbers)

    collected.__signature__ = signature  # type: ignore[attr-defined]
    return collected


def _with_measure(function: Callable[..., Any]) -> tuple[inspect.Signature, int]:
    """The signature of `collect(function)`, and how many positional arguments may come before `measure`.

    The transformations of nnx bind arguments by the signature, and hand keywords on by position.
    """
    signature = inspect.signature(function)
    own, kinds = list(signature.parameters.values()), inspect.Parameter
    if any(parameter.name == "measure" or parameter.kind is kinds.VAR_POSITIONAL for parameter in own):
        return signature, sys.maxsize
    place = sum(parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD) for parameter in own)
    own.insert(place, kinds("measure", kinds.POSITIONAL_OR_KEYWORD, default=True))
    return signature.replace(parameters=own), place


def sow(site: str, **numbers: Float[jax.Array, ""] | float) -> None:
    """Hand out scalars by the name of their indicator, at `site`; the second use of a site is `site#2`.

    Raises:
        PitpropError: Inside of an inner transformation, or a value that is no scalar.
    """
    values = {name: jnp.asarray(value) for name, value in numbers.items()}
    odd = next((name for name, value in values.items() if value.shape), None)
    if odd is not None:
        raise PitpropError(
            f"`{odd}` at `{site}` has the shape {values[odd].shape}",
            means="A trace keeps one number per step, indicator and site.",
            do="reduce it first.",
            read=PAGE,
        )
    sow_lazily(site, tuple(numbers), lambda: values)


def sow_lazily(site: str, names: tuple[str, ...], compute: Callable[[], Mapping[str, jax.Array]]) -> None:
    """Like `sow`, with the scalars called `names` computed by `compute` on measured steps only."""
    collector: _Collector | None = getattr(_open, "collector", None)
    if collector is None:
        return
    if collector.trace != _trace():
        raise PitpropError(
            f"`{site}` was tapped inside of an inner transformation (scan, vmap, remat, cond, ...)",
            means="Its values can't leave that by themselves, so nothing could be recorded.",
            do="wrap the inner function in `pitprop.optax.collect` and hand its numbers out as a result, or tap "
            "outside of it.",
            read=PAGE,
        )

    def scalars() -> dict[str, jax.Array]:
        return {name: jax.lax.stop_gradient(value).astype(jnp.float32) for name, value in compute().items()}

    def nothing() -> dict[str, jax.Array]:
        return dict.fromkeys(names, jnp.asarray(jnp.nan, jnp.float32))

    found = scalars() if collector.measure is True else jax.lax.cond(collector.measure, scalars, nothing)
    use = 1 + sum(known.partition("#")[0] == site for known in collector.numbers.get(names[0], {}))
    for name, value in found.items():
        collector.numbers.setdefault(name, {})[site if use == 1 else f"{site}#{use}"] = value


def tap(name: str, tokens: Float[jax.Array, "*batch token width"]) -> Float[jax.Array, "*batch token width"]:
    """Measure a stream (token cosine, effective rank, activation peak, norm) as site `name`, and hand it on unchanged.

    Raises:
        PitpropError: It has fewer than two axes, or lies inside of an inner transformation.
    """
    if tokens.ndim < 2:
        raise PitpropError(
            f"tap {name!r} got an array of shape {tokens.shape}",
            means="It measures how alike and how varied tokens are, over the last axes `token width`.",
            do="pass an array with two axes or more; scalars go to `pitprop.optax.sow`.",
            read=PAGE,
        )

    def compute() -> dict[str, jax.Array]:
        part = tokens.reshape(-1, *tokens.shape[-2:])[:STREAM_BATCH]
        part = part[:, :: max(1, math.ceil(part.shape[1] / STREAM_TOKENS))].astype(jnp.float32)
        return {
            "token_cosine": of.token_cosine(part).mean(),
            "effective_rank": of.effective_rank(part).mean(),
            "activation_peak": of.activation_peak(part).max(),
            # The median, because a few tokens with massive activations are everyday.
            "stream_norm": jnp.median(jnp.linalg.norm(part, axis=-1)),
        }

    sow_lazily(name, ("token_cosine", "effective_rank", "activation_peak", "stream_norm"), compute)
    return tokens


@contextmanager
def collecting(measure: Any = True) -> Iterator[Numbers]:
    """What is sown within; `measure` as in `collect`."""
    before = getattr(_open, "collector", None)
    _open.collector = _Collector({}, _trace(), measure)
    try:
        yield _open.collector.numbers
    finally:
        _open.collector = before


def _trace() -> Any:
    return get_opaque_trace_state(convention="flax")
