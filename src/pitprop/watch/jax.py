"""A watch on a jax training: it is given what each step returned, and reads the measured ones.

    tx = pitprop.optax.watch(optax.adamw(1e-3))
    with pitprop.optax.session(run="runs/a") as watch:
        for batch in batches:
            params, opt_state, loss = step(params, opt_state, batch)   # compiled as ever
            watch.take(opt_state, loss=loss)

A measured step's numbers are copied into one vector on the device, because the next step may take its arrays over
(`donate_argnums`). That vector and the losses since the last one are moved to the host together, once, and not before
the next step was given to the device.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pitprop._errors import PitpropError
from pitprop.records import Finding
from pitprop.rules import Rule
from pitprop.trace.writer import Exist
from pitprop.watch.derived import derived
from pitprop.watch.histogram import NUM_BUCKETS
from pitprop.watch.session import FLUSH, Arrays, Finished, Watch
from pitprop.watch.taps import Numbers
from pitprop.watch.transformation import Table, WatchState, by_site, histograms_by_site, states_in

PAGE = "docs/watch.md"


class JaxWatch:
    """A context manager around a training loop in jax; made by `session`."""

    def __init__(self, watch: Watch, edge: "JaxEdge"):
        self._watch, self._edge = watch, edge

    def take(
        self, state: Any = None, *, taps: Numbers | None = None, num_steps: int = 1, loss: Any = None, **numbers: Any
    ) -> None:
        """A step was made; to be called after each one, outside of compiled code.

        Args:
            state: What holds the state of `pitprop.optax.watch`: the optimizer's state, or anything around it. Several,
                as of `optax.multi_transform`, are read as one where each is of other arrays.
            taps: What `collect` handed out, or `from_intermediates`.
            num_steps: Steps that this call speaks of, where several are compiled into one (`lax.scan`); its numbers are
                those of the last.
            loss: Loss of the step, an array of one element; kept for every step.
            numbers: More numbers, by name, or `{site: number}`.

        Raises:
            PitpropError: Called inside of compiled code, a state that was not watched or is of several trainings, an
                array that was watched twice, or what `Watch.log` refuses.
        """
        edge = self._edge
        with edge.working():
            if edge.measuring:
                edge.keep(state, taps or {})
            edge.inside = True
            try:
                if loss is not None or numbers:
                    self._watch.log(loss=loss, **numbers)
            finally:
                edge.inside = False
            edge.on_step(num_steps)

    def log(self, **numbers: Any) -> None:
        """Add numbers to the step that was taken last, as in `take`; see `Watch.log`."""
        self._watch.log(**numbers)

    @property
    def findings(self) -> list[Finding]:
        """What was found so far."""
        return self._watch.findings

    @property
    def folder(self) -> Path:
        """Folder of the trace."""
        return self._watch.folder

    @property
    def sampling(self) -> bool:
        """Whether the step that comes is measured: worth giving to `collect`'s `measure=`."""
        return self._edge.measuring

    @property
    def step(self) -> int:
        """Number of the step that comes, from 0."""
        return self._watch.step

    def __enter__(self) -> "JaxWatch":
        self._watch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watch.__exit__(*error)


def session(
    *,
    run: str | Path | None = None,
    every: int | None = None,
    budget: float | None = 0.02,
    rules: Sequence[Rule] | None = None,
    allow: Sequence[str] = (),
    config: Mapping[str, object] | None = None,
    seed: int | None = None,
    exist: Exist = "refuse",
    quiet: bool = False,
) -> JaxWatch:
    """Watch a jax training whose optimizer is a `pitprop.optax.watch`. Arguments are those of `pitprop.watch`."""
    edges: list[JaxEdge] = []

    def make(**callbacks: Any) -> JaxEdge:
        edges.append(JaxEdge(**callbacks))
        return edges[0]

    options: dict[str, Any] = {"rules": rules, "allow": allow, "config": config, "seed": seed, "exist": exist}
    return JaxWatch(Watch(make, run=run, every=every, budget=budget, quiet=quiet, **options), edges[0])


class JaxEdge:
    """What a session asks of a framework, answered for jax."""

    num_backwards = 0

    def __init__(
        self,
        *,
        on_step: Callable[[int], None],
        working: Callable[[], contextlib.AbstractContextManager],
        on_error: Callable[[str, Exception], None],
    ):
        self.on_step, self.working = on_step, working
        self.measuring = self.inside = self._maps = False
        self.feeds = _NoFeeds()
        self._kept: _Kept | None = None
        self._waiting: list[_Kept] = []
        self._num_updates: dict[tuple[str, ...], float] = {}
        self._num_gradients = self._num_taken = 0
        self._attention: set[str] = set()

    @property
    def device(self) -> str:
        """The device that jax computes on by default."""
        return str(jax.devices()[0])

    def attach(self) -> None:
        """Nothing is attached to anything."""

    def detach(self) -> None:
        """No further step comes."""
        self.measuring = False

    def begin(self, *, maps: bool) -> None:
        """Measure the step that begins now, with `maps` also what is large."""
        self.measuring, self._kept, self._maps = True, None, maps

    def keep(self, state: Any, taps: Numbers) -> None:
        """Copy what a measured step returned into one vector on its device."""
        found = states_in(state)
        if not found and state is not None:
            raise PitpropError(
                f"`take` got a {type(state).__name__} without the state of a watched optimizer",
                means="The norms of gradients and updates are kept there.",
                do="wrap the optimizer, `tx = pitprop.optax.watch(tx)`, and pass the state that its `update` returned.",
                read=PAGE,
            )
        times = Counter(name for one in found for name in one.table.names)
        twice = next((name for name, number in times.items() if number > 1), None)
        if twice is not None:
            raise PitpropError(
                f"`take` got {len(found)} states of `pitprop.optax.watch` that measure `{twice}`",
                means="A trace keeps one number per step, indicator and site.",
                do="keep one `pitprop.optax.watch`, around the whole optimizer, or pass the state of one of them.",
                read=PAGE,
            )
        self._kept = _Kept(found, taps, histograms=self._maps)

    def finish(self) -> Finished:
        """The measured step ended; what it gives is read when it is written."""
        self.measuring = False
        kept, self._kept = self._kept, None
        if kept is None:
            return lambda: ({}, [])
        self._num_taken += 1
        self._waiting.append(kept)
        return lambda: self._read(kept)

    def begun(self) -> bool:
        """A `log` within `take` speaks of the step that ends there, any other one of the step before."""
        return self.inside

    def number(self, name: str, value: Any) -> jax.Array | float:
        """A logged number; arrays stay where they are until many are moved together."""
        if isinstance(value, jax.Array) and not isinstance(value, Tracer):
            value = value.addressable_data(0)
            if value.size == 1:
                return value
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            traced = isinstance(value, Tracer)
            shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
            raise PitpropError(
                f"`watch.log({name}=...)` got a {type(value).__name__}{shape}",
                means="It was called inside of compiled code." if traced else "A trace keeps one number per step.",
                do="call it outside, on what the compiled step returned."
                if traced
                else "reduce it first. Arrays are measured inside of the step: `pitprop.optax.sow(site, "
                "output_uniqueness=pitprop.indicators.output_uniqueness(outputs))`.",
                read=PAGE,
            ) from error

    def to_host(self, values: Sequence[Any]) -> list[float]:
        """`values` as numbers, and what was measured meanwhile, in one transfer."""
        arrays = [value for value in values if isinstance(value, jax.Array)]
        waiting, self._waiting = self._waiting, []
        if arrays or waiting:
            # Always as many as wait at most, so that there is one form to compile.
            padding = arrays[:1] * (-len(arrays) % FLUSH)
            flat = fetch(_joined([*(kept.vector for kept in waiting), *arrays, *padding]))
            for kept in waiting:
                kept.numbers, flat = flat[: kept.vector.size], flat[kept.vector.size :]
            moved = iter(flat.tolist())
            return [next(moved) if isinstance(value, jax.Array) else value for value in values]
        return list(values)

    def coverage(self) -> dict[str, Any]:
        """What was seen, as JSON values; nothing is expected, because a pure function can't be looked into."""
        return {
            "num_forwards": self._num_taken,
            "num_gradients": self._num_gradients,
            "num_sharded_parameters": 0,
            "unhookable": [],
            "compiled": [],
            "optimizer_state": {},
            "attention": {"expected": [], "seen": sorted(self._attention), "unseen": [], "unmeasured": {}},
        }

    def _read(self, kept: "_Kept") -> tuple[dict[str, dict[str, float]], Arrays]:
        parts, taps = kept.read()
        self._attention |= taps.get("attention_entropy", {}).keys()
        found: dict[str, dict[str, float]] = {}
        arrays: Arrays = []
        # A step that made no update (accumulation) leaves the table of the last one; so does one of several that rests.
        begun = [part for part in parts if part.num_updates]
        if any(part.num_updates != self._num_updates.get(part.table.names) for part in begun):
            self._num_updates |= {part.table.names: part.num_updates for part in begun}
            names = [name for part in begun for name in part.table.names]
            self._num_gradients += len(names)
            sizes = [size for part in begun for size in part.table.sizes]
            found = by_site(np.concatenate([part.norms for part in begun]), names, sizes)
            counted = [name for part in begun if len(part.counts) for name in part.table.names]
            arrays = histograms_by_site(np.concatenate([part.counts for part in begun]), counted)
        found |= taps
        return found | derived(found, None), arrays


class _Part(NamedTuple):
    """What one watched transformation measured, on the host."""

    table: Table
    num_updates: float
    norms: np.ndarray
    counts: np.ndarray
    """Histograms; without rows where there are none."""


class _Kept:
    """One measured step on the device."""

    def __init__(self, states: Sequence[WatchState], taps: Numbers, *, histograms: bool):
        self._tables, self._histograms = [state.table for state in states], histograms
        self._places = [(indicator, site) for indicator, sites in taps.items() for site in sites]
        own: list[jax.Array] = []
        for state in states:
            own += [_local(state.num_updates, "state", "the state of a watched optimizer"), _local(state.table.norms)]
            own += [_local(state.table.histograms)] if histograms else []
        own += [_local(taps[name][site], "taps", f"`{name}` at `{site}`") for name, site in self._places]
        self._sizes = [array.size for array in own]
        self.vector = _joined(own) if own else jnp.zeros((0,), jnp.float32)
        self.numbers: np.ndarray = np.zeros(0, np.float32)
        """The vector on the host, once it is there."""

    def read(self) -> tuple[list[_Part], dict[str, dict[str, float]]]:
        """What each watched transformation measured, and what was sown."""
        pieces = iter(np.split(self.numbers, np.cumsum(self._sizes)))
        parts = []
        for table in self._tables:
            num_updates, norms = float(next(pieces)[0]), next(pieces).reshape(-1, 3)
            counts = (next(pieces) if self._histograms else norms[:0]).reshape(-1, NUM_BUCKETS).astype(np.int64)
            parts.append(_Part(table, num_updates, norms, counts))
        taps: dict[str, dict[str, float]] = {}
        for (indicator, site), value in zip(self._places, pieces, strict=False):
            taps.setdefault(indicator, {})[site] = float(value[0])
        return parts, taps


def _local(array: Any, given: str = "", what: str = "") -> jax.Array:
    """The first device's part of `array`; one element, where it is said `what` it is."""
    if isinstance(array, Tracer):
        raise PitpropError(
            "`take` was called inside of compiled code",
            means="There are no numbers yet, only their shapes.",
            do="call it outside, on what the compiled step returned.",
            read=PAGE,
        )
    array = array.addressable_data(0) if isinstance(array, jax.Array) else jnp.asarray(array)
    if what and array.size != 1:
        raise PitpropError(
            f"`take` got {what} with a leading axis, of shape {array.shape}",
            means="It is of several trainings or steps (`vmap`, `lax.map`, `lax.scan`). A trace keeps one number per "
            "step, indicator and site.",
            do=f"give it one of them: `jax.tree.map(lambda a: a[0], {given})`.",
            read=PAGE,
        )
    return array


class _NoFeeds:
    """Arrays are measured inside of the step; none are taken."""

    def take(self, given: dict[str, Any]) -> list:
        return []


@jax.jit
def _joined(arrays: Sequence[jax.Array]) -> jax.Array:
    # Larger counts than float32 holds would only have to differ from the last one.
    return jnp.concatenate([jnp.ravel(array).astype(jnp.float32) for array in arrays])


def fetch(vector: jax.Array) -> np.ndarray:
    """The one way to the host; waits for the step that made it."""
    return np.asarray(vector)
