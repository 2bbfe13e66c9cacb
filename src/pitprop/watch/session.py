"""One watched run: decides which steps are measured, keeps what the loop logs, writes the trace, and speaks up.

The session knows no framework. An edge (`watch/torch.py`) sees steps and measures; the session puts its numbers, and
those that the loop logs, into rows, the rows into the trace, and the rows' findings before the user.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pitprop._errors import PitpropError
from pitprop.records import RUN, Finding, Row
from pitprop.rules import INTERNAL, Detector, Rule
from pitprop.trace import Reader, Writer, collect
from pitprop.trace.writer import Exist
from pitprop.watch._console import Voice
from pitprop.watch._names import at_sites, check_names, new_folder
from pitprop.watch.coverage import notes_on, remarks_on
from pitprop.watch.schedule import Schedule
from pitprop.watch.snapshots import Keeper, Snapshots

FLUSH = 50
"""Steps whose logged numbers may wait to be written."""

HOST_S, DEVICE_S = 0.25, 2.0
"""Seconds that they may wait, on the host and on an accelerator (moving them makes the host wait for it)."""

PAGE = "docs/watch.md"

Arrays = list[tuple[str, str, np.ndarray]]  # site, name, array
Finished = Callable[[], tuple[dict[str, dict[str, float]], Arrays]]
"""What an edge gives of a measured step: asked when it is written, so that it may still be on its way to the host."""


@dataclass
class _Step:
    """What is known of one step until it is written."""

    number: int
    sampled: bool
    finished: Finished = lambda: ({}, [])
    logged: dict[tuple[str, str], list[Any]] = field(default_factory=dict)


class Watch:
    """A context manager around a training loop; made by `pitprop.watch`.

    A row of step k describes the state before the k-th update. What the loop logs belongs to the step whose forward
    pass has been seen, also when `log` comes after `optimizer.step()`.
    """

    def __init__(
        self,
        make_edge: Callable[..., Any],
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
        snapshots: Snapshots | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.findings: list[Finding] = []
        self.folder = new_folder() if run is None else Path(run)
        self._schedule = Schedule(every, budget, clock=clock)
        self._detector = Detector(rules, allow)
        self._allow = frozenset((allow,) if isinstance(allow, str) else allow)
        self._edge = make_edge(on_step=self._end_step, working=self._working, on_error=self._own_error)
        self._config, self._seed = config, seed
        self._exist: Exist = exist
        self._voice = Voice(quiet=quiet)
        self._snapshots = snapshots
        self._snapshot_s = self._snapshots_s = 0.0  # of the last one, and of all
        self._keeper: Keeper | None = None
        self._past: list[Finding] = []
        self._writer: Writer | None = None
        self._state: Literal["new", "open", "closed"] = "new"
        self._running = _Step(0, False)
        self._ended: _Step | None = None
        self._waiting: list[_Step] = []
        self._clock, self._flushed = clock, clock()
        self._next_map = self._milestone = 0
        self._num_values = 0
        self._busy = False

    # -- for the user --------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Number of the step that runs now, from 0: optimizer steps that have ended."""
        return self._running.number

    @property
    def sampling(self) -> bool:
        """Whether the step that `log` would speak of now is measured: worth handing over `outputs`."""
        return self._state == "open" and self._spoken_of(()).sampled

    def log(self, *, loss: Any = None, outputs: Any = None, targets: Any = None, **given: Any) -> None:
        """Add what only the loop knows. Nothing is kept alive: tensors are detached, and copied on their device.

        Args:
            loss: Loss of the step, a number or a tensor of one element. Kept for every step; several calls in one step
                (micro-batches) are averaged.
            outputs: What the model gave for a batch of different inputs, `[sample, ...]`; used on measured steps only.
            targets: What it should have given; where it has the shape of `outputs`, their spreads are compared.
            given: More numbers, by name, like `loss`, and the arrays of `watch/feeds.py` (`logits`, `codes`, ...), like
                `outputs`; `{site: value}` gives several places.

        Raises:
            PitpropError: Outside the `with` block, a value that is not one number, an array that is no tensor or does
                not fit, or a name that a watch uses itself or that can't be written. Nothing is recorded then.
        """
        if self._state != "open":
            raise PitpropError(
                "`watch.log` was called outside the `with pitprop.watch(...)` block",
                means="There is no step that the numbers could belong to; they were not recorded.",
                do="Call it inside the block, once per step.",
                read=PAGE,
            )
        with self._working():
            given |= {"loss": loss, "outputs": outputs, "targets": targets}
            arrays = self._edge.feeds.take(given)
            given = {name: value for name, value in given.items() if value is not None}
            placed = at_sites(given)
            check_names(given, {site for _, site in placed} | {site for _, site, _ in arrays})
            numbers = {key: self._edge.number(key[0], value) for key, value in placed.items()}
            step = self._spoken_of(tuple(numbers))
            if step is self._running and self._ended is not None:
                self._settle(self._ended)
                self._ended = None
            if arrays and step.sampled:
                with self._contained("log arrays"):
                    numbers |= self._edge.feeds.measure(arrays)
            for key, value in numbers.items():
                step.logged.setdefault(key, []).append(value)

    def tap(self, name: str, tensor: Any) -> Any:
        """Measure a `[..., token, width]` tensor as a stream (token cosine, effective rank), and hand it on unchanged.

        Does nothing on steps that are not measured, without gradients, inside compiled code and outside the block.

        Raises:
            PitpropError: The tensor has fewer than two axes.
        """
        if self._state == "open":
            self._edge.tap(name, tensor)
        return tensor

    def tap_attention(
        self, name: str, q: Any, k: Any, *, scale: float | None = None, mask: Any = None, is_causal: bool = False
    ) -> None:
        """Measure attention that can't be seen by itself (own kernels, exp and sum) by its queries and keys.

        Args:
            name: Site to report it at.
            q: `[*batch, head, query, width]`, as it enters the dot product.
            k: `[*batch, kv_head, key, width]`.
            scale: Factor of the dot product; 1/sqrt(width) where absent.
            mask: Boolean (True = attend) or additive, broadcast to `[*batch, head, query, key]`.
            is_causal: Query i sees keys 0 to i.
        """
        if self._state == "open":
            self._edge.tap_attention(name, q, k, scale=scale, mask=mask, is_causal=is_causal)

    def __enter__(self) -> "Watch":
        if self._state != "new":
            raise PitpropError(
                "this watch was used already",
                means="One watch is one run with one trace.",
                do='Call `pitprop.watch(...)` again, with another `run`, or with exist="resume" to go on.',
                read=PAGE,
            )
        info = collect(self.folder.name, self._config, self._seed, self._edge.device)
        self._writer = Writer(self.folder, info, exist=self._exist)
        try:
            if self._writer.last_step is not None:
                self._running.number = self._replay() + 1
            if self._snapshots is not None:
                fresh = self._exist == "replace"
                self._keeper = Keeper(self.folder, self._snapshots, self._edge.write_state, fresh=fresh)
            self._edge.attach()
        except BaseException:
            self._writer.close()
            raise
        self._state = "open"
        with self._working():
            self._snapshot(self._running.number)
            self._begin_step(self._running.number)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        unfinished = max(self._edge.num_backwards, *map(len, self._running.logged.values()), 0)
        self._edge.detach()
        self._state = "closed"
        with self._contained("close"):
            # A step that did not end has no measurements, but what was logged in it is true.
            for step in (self._ended, self._running):
                if step is not None:
                    self._settle(step)
            self._flush()
            self._voice.groups()
        if kind is None:
            self._snapshot(self.step, last=True)
        notes = self._notes(unfinished)
        with self._contained("close"):
            self._describe(notes)
        if self._writer is not None:
            with self._contained("close"):
                self._writer.close()
        if kind is None:
            self._say_goodbye(notes)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _begin_step(self, number: int) -> None:
        sampled = self._schedule.decide(number)
        self._running = _Step(number, sampled)
        if sampled:
            maps = number >= self._next_map
            if maps:
                self._milestone = number
                self._next_map = max(number + 1, 3 * number)  # about a dozen in the life of a run
            with self._contained("begin"):
                self._edge.begin(maps=maps)

    def _end_step(self, num: int = 1) -> None:
        """The edge saw the step's last optimizer; runs inside its `step`, in `_working`; `num` steps at once."""
        self._schedule.finish()
        if self._ended is not None:
            self._settle(self._ended)
        step = self._running
        step.number += num - 1
        if step.sampled:
            with self._contained("finish"):
                step.finished = self._edge.finish()
        self._ended = step  # open still: a `log` that comes before the next forward pass speaks of it
        self._snapshot(step.number + 1)
        self._begin_step(step.number + 1)

    def _snapshot(self, step: int, *, last: bool = False) -> None:
        """Take a snapshot after `step` steps, if one is due and its time fits into the budget, or at the end."""
        keeper, clock = self._keeper, self._schedule.clock
        expected = self._snapshots_s + self._snapshot_s
        if keeper is None or not (last or (keeper.due(step) and self._schedule.affords(expected))):
            return
        begin = clock()
        with self._contained("snapshot"):
            keeper.take(step, [*self._past, *self.findings], self._edge.state_bytes())
            self._list_snapshots()
        self._snapshot_s = clock() - begin
        self._snapshots_s += self._snapshot_s

    def _spoken_of(self, keys: Sequence[tuple[str, str]]) -> _Step:
        """The step that a call of `log` speaks of: the one whose forward pass was seen last."""
        if self._ended is None:
            return self._running
        begun = self._edge.begun()
        if begun is None:  # then a name that comes a second time begins the next step
            begun = any(key in self._ended.logged for key in keys or (("output_uniqueness", RUN),))
        return self._running if begun else self._ended

    def _settle(self, step: _Step) -> None:
        """Nothing can be added to `step` any more; write it now, or with a later one."""
        if step.sampled or step.logged:
            self._waiting.append(step)
        if step.sampled or self._pressing(step):
            with self._contained("write"):
                self._flush()
                if step.number == self._milestone:  # for a run that is killed before it can say so
                    self._describe(self._notes())

    def _pressing(self, step: _Step) -> bool:
        """Whether what waits is written now: it is much, or old, or `step` has something bad to say."""
        logged = [value for values in step.logged.values() for value in values]
        on_host = all(isinstance(value, float) for value in logged)
        if len(self._waiting) >= FLUSH or (on_host and not all(map(math.isfinite, logged))):
            return True
        return bool(self._waiting) and self._clock() - self._flushed >= (HOST_S if on_host else DEVICE_S)

    def _flush(self) -> None:
        self._flushed = self._clock()
        steps, self._waiting = self._waiting, []
        numbers = iter(self._edge.to_host([v for step in steps for values in step.logged.values() for v in values]))
        for step in steps:
            measured, arrays = step.finished()
            values = {name: dict(sites) for name, sites in measured.items()}
            for (name, site), given in step.logged.items():
                values.setdefault(name, {})[site] = sum(next(numbers) for _ in given) / len(given)
            self._write(step, values, arrays)

    def _write(self, step: _Step, values: dict[str, dict[str, float]], arrays: Arrays) -> None:
        if self._writer is None or not values:
            return
        self._writer.append(step.number, values)
        for site, name, array in arrays:
            self._writer.append_array(step.number, site, name, array)
        self._num_values += sum(map(len, values.values()))
        rows: dict[str, dict[str, float]] = {}
        for indicator, sites in values.items():
            for site, value in sites.items():
                rows.setdefault(site, {})[indicator] = value
        for site, row in rows.items():
            for finding in self._detector.update(Row(step=step.number, site=site, values=row)):
                self._report(finding)

    def _replay(self) -> int:
        """Bring the detector to where a resumed run stopped; the last step that is in the trace."""
        with Reader(self.folder) as reader:
            for row in reader.rows():
                for finding in self._detector.update(row):
                    self._past.append(finding)
                    self._voice.know(finding)
            return reader.last_step if reader.last_step is not None else -1

    # -- what is said --------------------------------------------------------------------------------------------

    def _report(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._voice.finding(finding)

    def _own_error(self, tap: str, error: Exception) -> None:
        """Report an error of pitprop's own, once per tap; the training goes on."""
        site = tap
        if INTERNAL in self._allow or f"{INTERNAL}@{site}" in self._allow:
            return
        if any(finding.rule == INTERNAL and finding.site == site for finding in self.findings):
            return
        self._report(
            Finding(
                rule=INTERNAL,
                severity="warning",
                site=site,
                onset=self.step,
                detected=self.step,
                message=f"pitprop's own `{tap}` failed with {type(error).__name__}: {error}. Training is not affected; "
                "what this tap measures may be missing from the trace.",
            )
        )

    def _notes(self, num_unfinished: int = 0) -> list[str]:
        schedule = self._schedule
        return notes_on(
            self._edge, num_steps=schedule.num_steps, num_sampled=schedule.num_sampled, num_unfinished=num_unfinished
        )

    def _describe(self, notes: Sequence[str]) -> None:
        if self._writer is not None:
            self._writer.set_meta("schedule", self._schedule.describe())
            self._list_snapshots()
            internal = [finding.message for finding in self.findings if finding.rule == INTERNAL]
            notes = [*notes, *remarks_on(self._edge), *internal]
            self._writer.set_meta("coverage", {**self._edge.coverage(), "notes": notes})

    def _list_snapshots(self) -> None:
        if self._keeper is not None and self._writer is not None:
            self._writer.set_meta("snapshots", self._keeper.describe([*self._past, *self.findings]))

    def _say_goodbye(self, notes: Sequence[str]) -> None:
        self._voice.goodbye(self._schedule, self.folder, notes)
        if not self._num_values:
            warnings.warn(
                f"pitprop recorded nothing in {self.folder}. " + " ".join(notes), RuntimeWarning, stacklevel=3
            )

    # -- keeping out of the way ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Account for pitprop's own time between two steps; nests."""
        if self._busy:
            yield
            return
        self._busy = True
        self._schedule.begin_work()
        try:
            yield
        finally:
            self._schedule.end_work()
            self._busy = False

    @contextlib.contextmanager
    def _contained(self, tap: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._own_error(tap, error)
