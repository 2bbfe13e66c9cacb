"""Writes a trace: every append is one transaction, and what was acknowledged survives the death of the process.

In WAL mode a commit reaches the operating system, not the platter: after `kill -9` every acknowledged row is there,
after a power cut the file is whole, but the last commits may be missing. Where SQLite refuses WAL (no shared memory,
as on some network file systems) the trace uses a rollback journal: as safe, but slower.
"""

import array
import contextlib
import json
import numbers
import os
import sqlite3
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from pitprop._array import to_host
from pitprop._errors import PitpropError
from pitprop.records import RunInfo
from pitprop.trace import provenance, schema

Exist = Literal["refuse", "replace", "resume"]

_LAST_STEP = "SELECT max(step) FROM (SELECT max(step) AS step FROM measurements UNION ALL SELECT max(step) FROM arrays)"


class Writer:
    """The one writer of a run's trace; a context manager. Threads may share it, processes may not.

    Args:
        folder: Run folder, made if missing; the trace is the file `trace.sqlite` in it.
        info: Where the run comes from.
        exist: What to do with a trace that is there already: `refuse`, `replace` it (only ever a trace of ours), or
            `resume` it after its last step, keeping its `info` and adding this one to the meta entry `resumed`.

    Raises:
        PitpropError: The folder cannot be made or written, holds somebody else's file, or a trace and `exist` refuses.
    """

    def __init__(self, folder: str | Path, info: RunInfo, *, exist: Exist = "refuse"):
        if exist not in ("refuse", "replace", "resume"):
            raise PitpropError(f"exist={exist!r}", do="give `refuse`, `replace` or `resume`", read=schema.PAGE)
        self.folder = Path(folder)
        self._path = self.folder / schema.FILE
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._written: list[tuple[str, tuple[str, ...]]] = []
        """Indicators and layouts of the last step, to refuse a second measurement of the same thing."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PitpropError(
                f"cannot make the run folder {folder}: {error.strerror}",
                means="Nothing can be recorded there.",
                do="choose another run folder",
            ) from error
        if schema.is_trace(self._path):
            if exist == "refuse":
                raise _exists(self._path)
            if exist == "replace":
                _remove(self._path)
        with schema.explained(self._path, means="The trace cannot be opened for writing; nothing was recorded."):
            self._connection: sqlite3.Connection | None = schema.connect(self._path, "mode=rwc")
            try:
                self._start(self._connection, info, exist)
            except BaseException:
                self._connection.close()
                raise

    def _start(self, connection: sqlite3.Connection, info: RunInfo, exist: Exist) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        if schema.migrate(connection, self._path) == 0:
            connection.execute("INSERT INTO meta VALUES ('info', ?)", (provenance.to_json(info),))
        elif exist == "resume":
            found = connection.execute("SELECT value FROM meta WHERE key = 'resumed'").fetchone()
            resumed = [*json.loads(found[0] if found else "[]"), json.loads(provenance.to_json(info))]
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('resumed', ?)", (json.dumps(resumed),))
        else:  # another process made it since we looked
            raise _exists(self._path)
        connection.execute("COMMIT")
        with contextlib.suppress(sqlite3.OperationalError):  # refused: the rollback journal stays
            connection.execute("PRAGMA journal_mode = WAL")
        self._recall(connection)
        self._last: int | None = connection.execute(_LAST_STEP).fetchone()[0]
        self._lowest = 0 if self._last is None else self._last + 1

    @property
    def last_step(self) -> int | None:
        """Last step in the trace, also of the run that is resumed; None while there is none."""
        return self._last

    def append(self, step: int, measurements: Mapping[str, Mapping[str, float]]) -> None:
        """Records `{indicator: {site: value}}` of one step; on disk when it returns, all of it or nothing.

        Args:
            step: Optimizer step, from 0, never lower than before; several calls may add to one step.
            measurements: Values by indicator and site, rounded to float32 (over 3.4e38 that is infinity). NaN is
                "undefined"; what was not measured is left out.

        Raises:
            PitpropError: Steps go backwards, a value is not a number or was measured already, or the disk is full.
        """
        step = _count(step)
        packed = [(name, tuple(values), _pack(name, values)) for name, values in _items(measurements) if values]
        if not packed:
            return
        with self._transaction(step, [(name, sites) for name, sites, _ in packed]) as connection:
            if step == self._last:
                self._refuse_repeats(step, measurements)
            rows = [
                (step, self._name(connection, "indicators", name), self._layout(connection, sites), vector)
                for name, sites, vector in packed
            ]
            connection.executemany("INSERT INTO measurements (step, indicator, layout, vector) VALUES (?,?,?,?)", rows)

    def append_array(self, step: int, site: str, name: str, array) -> None:
        """Records an array (an attention map, say) of one step at one site, compressed without loss.

        Args:
            step: Optimizer step, from 0, never lower than before.
            site: Dotted place in the model.
            name: Name of the array, such as `attention`.
            array: numpy, torch or jax array of numbers or booleans, any shape; torch and jax halves become float32.

        Raises:
            PitpropError: As `append`, or the array holds something else than numbers.
        """
        step = _count(step)
        values = array if isinstance(array, np.ndarray) else to_host(array)
        if values.dtype.kind not in "biufc":
            raise PitpropError(f"array {name!r} at {site!r} has dtype {values.dtype}", do="give an array of numbers")
        dtype = values.dtype.newbyteorder("<")
        flat = values.astype(dtype, copy=False).reshape(-1).view(np.uint8)
        # All first bytes, then all second bytes, ...: exponents lie together and compress.
        data = zlib.compress(np.ascontiguousarray(flat.reshape(-1, dtype.itemsize).T).data, level=1)
        shape = json.dumps(values.shape)
        with self._transaction(step) as connection:
            row = (step, self._name(connection, "sites", site), name, dtype.str, shape, data)
            connection.execute("INSERT INTO arrays (step, site, name, dtype, shape, data) VALUES (?,?,?,?,?,?)", row)

    def set_meta(self, key: str, value: object) -> None:
        """Sets one entry of the meta table, such as `coverage`; entries, unlike measurements, may be set again.

        Raises:
            PitpropError: The value is not JSON, or the key is one of the trace's own (`info`, `resumed`).
        """
        if key in ("info", "resumed"):
            raise PitpropError(f"meta key {key!r} belongs to the trace itself", do="choose another key")
        try:
            text = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise PitpropError(f"meta {key!r}: {error}", do="give numbers, strings, lists and dicts") from error
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def close(self) -> None:
        """Closes the trace and, if nobody reads it now, makes it one plain file. Does nothing in a forked child."""
        if os.getpid() != self._process:
            return
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            connection.execute("PRAGMA busy_timeout = 0")  # never wait for a reader
            # Refused while somebody reads or the disk is full: then the log stays, and is part of the trace.
            for pragma in ("journal_mode = DELETE", "wal_checkpoint(PASSIVE)"):
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute(f"PRAGMA {pragma}")
            connection.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(
        self, step: int | None = None, written: Iterable[tuple[str, tuple[str, ...]]] = ()
    ) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._process:
            raise PitpropError(
                f"{self._path} was opened by process {self._process} and is written by process {os.getpid()}",
                means="A forked process (a DataLoader worker, say) must not share a database connection.",
                do="write from the process that opened the trace",
            )
        with self._lock:
            connection = self._connection
            if connection is None:
                raise PitpropError(f"{self._path} is closed", do="write before the writer's `with` block ends")
            if step is not None and step < self._lowest:
                raise self._backwards(step)
            lost = "This call recorded nothing; everything before it is in the trace."
            with schema.explained(self._path, means=lost):
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    self._recall(connection)  # ids interned by the lost transaction are gone with it
                    raise
            if step is not None:
                self._written = [*(self._written if step == self._last else ()), *written]
                self._last = self._lowest = step

    def _backwards(self, step: int) -> PitpropError:
        return PitpropError(
            f"step {step} comes after step {self._last} in {self._path}",
            means="A trace is append-only: steps never go backwards, and a resumed run starts after the last one.",
            do=f"go on at step {self._lowest} or later, or start a new run folder",
            allow='exist="replace" starts again and drops the old trace',
            read=schema.PAGE,
        )

    def _refuse_repeats(self, step: int, measurements: Mapping[str, Mapping[str, float]]) -> None:
        for name, sites in self._written:
            again = sorted(set(sites).intersection(measurements.get(name, ())))
            if again:
                raise PitpropError(
                    f"{name!r} was measured twice in step {step}, at {again[0]!r} (sites: {len(again)})",
                    means="A trace keeps one value per step, indicator and site.",
                    do="append each measurement once",
                )

    def _recall(self, connection: sqlite3.Connection) -> None:
        self._names: dict[str, dict[str, int]] = {
            table: {name: i for i, name in connection.execute(f"SELECT id, name FROM {table}")}
            for table in ("sites", "indicators")
        }
        site = {i: name for name, i in self._names["sites"].items()}
        layouts = connection.execute("SELECT id, sites FROM layouts").fetchall()
        self._layouts = {tuple(site[s] for s in json.loads(sites)): i for i, sites in layouts}

    def _name(self, connection: sqlite3.Connection, table: str, name: str) -> int:
        known = self._names[table]
        if name not in known:
            try:
                name.encode()
            except (AttributeError, UnicodeEncodeError) as error:
                raise PitpropError(
                    f"{name!r} cannot be a name in a trace", do="name it with a Unicode string"
                ) from error
            connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (len(known) + 1, name))
            known[name] = len(known) + 1
        return known[name]

    def _layout(self, connection: sqlite3.Connection, sites: tuple[str, ...]) -> int:
        if sites not in self._layouts:
            ids = json.dumps([self._name(connection, "sites", site) for site in sites])
            connection.execute("INSERT INTO layouts VALUES (?, ?)", (len(self._layouts) + 1, ids))
            self._layouts[sites] = len(self._layouts) + 1
        return self._layouts[sites]


def _count(step: int) -> int:
    if not isinstance(step, numbers.Integral) or not 0 <= step < 2**63:
        raise PitpropError(f"step {step!r} is not a count", do="number steps with integers from 0")
    return int(step)


def _items(measurements: Mapping[str, Mapping[str, float]]) -> Iterable[tuple[str, Mapping[str, float]]]:
    for name, values in measurements.items():
        if not isinstance(values, Mapping):
            raise PitpropError(f"{name!r} has the value {values!r}", do="give {indicator: {site: value}}")
        yield name, values


def _pack(name: str, values: Mapping[str, float]) -> bytes:
    try:
        vector = array.array("f", values.values())
    except (TypeError, ValueError, OverflowError) as error:
        raise PitpropError(
            f"{name!r}: {error} (in {dict(values)!r:.200})",
            means="A trace holds numbers; an undefined one is NaN, and one that was not measured is left out.",
            do="give one number per site",
        ) from error
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()


def _exists(path: Path) -> PitpropError:
    return PitpropError(
        f"{path} holds a trace already",
        means="Writing there would mix two runs; it was not touched.",
        do='choose another run folder, or exist="resume" to go on after its last step',
        allow='exist="replace" drops the old trace',
        read=schema.PAGE,
    )


def _remove(path: Path) -> None:
    # The database goes last: until then the folder is still recognised as a trace of ours.
    for suffix in ("-wal", "-shm", "-journal", ""):
        try:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise PitpropError(f"cannot replace {path}: {error.strerror}", do="check its permissions") from error
