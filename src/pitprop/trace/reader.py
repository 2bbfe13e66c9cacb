"""Reads a trace: after a run, while it is being written, or after it was killed. Never changes the file."""

import contextlib
import itertools
import json
import math
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from pitprop._errors import PitpropError, nearest
from pitprop.records import Row, RunInfo
from pitprop.trace import provenance, schema

_CHUNK_STEPS = 256  # read at a time: a query that stays open would hold up a writer's journal


class Reader:
    """A trace, read-only; a context manager. A trace of an older version is brought to the current one in memory.

    While a writer is at work, everything it has acknowledged is visible; its last step may still grow.

    Args:
        folder: Run folder, the one that holds `trace.sqlite`.

    Raises:
        PitpropError: There is no such folder or no trace in it, or the file is foreign, damaged, or of a newer version.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._path = self.folder / schema.FILE
        self._layouts: dict[int, tuple[str, ...]] = {}
        if not self.folder.is_dir():
            raise PitpropError(f"there is no run folder {folder}", do="give the folder that the run was recorded in")
        if not schema.is_trace(self._path):
            runs = [str(path.parent) for path in sorted(self.folder.glob(f"*/{schema.FILE}"))]
            raise PitpropError(
                f"there is no trace in {folder}",
                means=f"A run folder holds a {schema.FILE} that is not empty.",
                do="did you mean " + ", ".join(f"`{run}`" for run in runs[:3]) + "?" if runs else "record a run first",
                read=schema.PAGE,
            )
        with schema.explained(self._path, means="The trace cannot be read."):
            self._connection = schema.connect_read_only(self._path)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        found = schema.version(self._connection)
        if found == 0:
            raise schema.damaged(self._path, "it has no tables")
        if found < len(schema.MIGRATIONS):
            with contextlib.closing(self._connection) as old:
                self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                old.backup(self._connection)
        schema.migrate(self._connection, self._path)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def info(self) -> RunInfo:
        """Where the run comes from."""
        return provenance.from_json(self._query("SELECT value FROM meta WHERE key = 'info'")[0][0])

    def meta(self, key: str, default: object = None):
        """One entry of the meta table, or `default` where it was never set."""
        found = self._query("SELECT value FROM meta WHERE key = ?", key)
        return json.loads(found[0][0]) if found else default

    @property
    def last_step(self) -> int | None:
        """Last step that anything was recorded for; None in an empty trace."""
        steps = self._query("SELECT max(step) FROM measurements UNION ALL SELECT max(step) FROM arrays")
        return max((step for (step,) in steps if step is not None), default=None)

    def indicators(self) -> tuple[str, ...]:
        """Names of all indicators, in the order in which they first appeared."""
        return tuple(name for (name,) in self._query("SELECT name FROM indicators ORDER BY id"))

    def sites(self, indicator: str) -> tuple[str, ...]:
        """Sites at which an indicator was ever measured, in the order in which they first appeared.

        Raises:
            PitpropError: The trace has no such indicator.
        """
        layouts = self._query(
            "SELECT DISTINCT layout FROM measurements WHERE indicator = ?", self._indicator(indicator)
        )
        return tuple(dict.fromkeys(site for (layout,) in sorted(layouts) for site in self._layout(layout)))

    def measurements(self, after: int = -1) -> Iterator[tuple[int, str, tuple[str, ...], Float32[np.ndarray, " site"]]]:
        """Everything after step `after`, as stored and in step order: (step, indicator, sites, one value per site)."""
        chunk = f"SELECT DISTINCT step FROM measurements WHERE step > ? ORDER BY step LIMIT {_CHUNK_STEPS}"
        after = int(after)
        while True:
            last = self._query(f"SELECT max(step) FROM ({chunk})", after)[0][0]
            if last is None:
                return
            rows = self._query(
                "SELECT step, indicators.name, layout, vector FROM measurements JOIN indicators"
                " ON indicators.id = indicator WHERE step > ? AND step <= ? ORDER BY step, measurements.id",
                *(after, last),
            )
            for step, indicator, layout, vector in rows:
                sites = self._layout(layout)
                if len(vector) != 4 * len(sites):
                    raise schema.damaged(self._path, f"{indicator!r} of step {step} has {len(vector)} bytes")
                yield step, indicator, sites, np.frombuffer(vector, "<f4")
            after = last

    def rows(self, after: int = -1) -> Iterator[Row]:
        """Rows after step `after`, in step order; a row holds all indicators of one site in one step."""
        for step, measured in itertools.groupby(self.measurements(after), key=lambda measurement: measurement[0]):
            by_site: dict[str, dict[str, float]] = {}
            for _, indicator, sites, values in measured:
                for site, value in zip(sites, values.tolist(), strict=True):
                    by_site.setdefault(site, {})[indicator] = value
            for site, values in by_site.items():
                yield Row(step=step, site=site, values=values)

    def series(
        self, indicator: str, site: str
    ) -> tuple[Int64[np.ndarray, " measured"], Float32[np.ndarray, " measured"]]:
        """One indicator at one site over time: the steps at which it was measured, ascending, and its values.

        Raises:
            PitpropError: The trace has no such indicator, or never measured it at this site.
        """
        number = self._indicator(indicator)
        pieces: list[tuple[int, bytes]] = []
        sites = {}
        for (layout,) in self._query("SELECT DISTINCT layout FROM measurements WHERE indicator = ?", number):
            sites |= dict.fromkeys(self._layout(layout))
            if site in self._layout(layout):
                start = 4 * self._layout(layout).index(site) + 1
                sql = "SELECT step, substr(vector, ?, 4) FROM measurements WHERE indicator = ? AND layout = ?"
                pieces += self._query(sql, start, number, layout)
        if not pieces:
            raise PitpropError(f"{indicator!r} was never measured at {site!r}", do=nearest(site, sites))
        pieces.sort()
        if any(len(value) != 4 for _, value in pieces):
            raise schema.damaged(self._path, f"{indicator!r} has a vector that is too short")
        steps = np.array([step for step, _ in pieces], dtype=np.int64)
        return steps, np.frombuffer(b"".join(value for _, value in pieces), "<f4").astype(np.float32)

    def arrays(self, name: str) -> list[tuple[int, str]]:
        """Steps and sites at which an array was recorded, in the order of recording; empty if it never was."""
        sql = (
            "SELECT step, sites.name FROM arrays JOIN sites ON sites.id = site WHERE arrays.name = ? ORDER BY arrays.id"
        )
        return self._query(sql, name)

    def array(self, name: str, step: int, site: str) -> Shaped[np.ndarray, "..."]:
        """One recorded array, with the dtype, shape and bits it was recorded with.

        Raises:
            PitpropError: It was not recorded, or its blob is damaged.
        """
        sql = "SELECT dtype, shape, data FROM arrays WHERE name = ? AND step = ?"
        found = self._query(f"{sql} AND site = (SELECT id FROM sites WHERE name = ?)", name, int(step), site)
        if not found:
            raise PitpropError(
                f"there is no array {name!r} of step {step} at {site!r}",
                do="see `Reader.arrays(name)` for what is there",
            )
        try:
            return _unpack(*found[0])
        except (TypeError, ValueError, zlib.error) as error:
            raise schema.damaged(self._path, f"array {name!r} of step {step} at {site!r}: {error}") from error

    def _query(self, sql: str, *values: object) -> list:
        with schema.explained(self._path, means="The trace cannot be read."):
            return self._connection.execute(sql, values).fetchall()

    def _indicator(self, name: str) -> int:
        found = self._query("SELECT id FROM indicators WHERE name = ?", name)
        if not found:
            raise PitpropError(f"{self._path} has no indicator {name!r}", do=nearest(name, self.indicators()))
        return found[0][0]

    def _layout(self, layout: int) -> tuple[str, ...]:
        if layout not in self._layouts:
            sql = "SELECT name FROM layouts, json_each(layouts.sites) AS place JOIN sites ON sites.id = place.value"
            names = self._query(f"{sql} WHERE layouts.id = ? ORDER BY place.key", layout)
            self._layouts[layout] = tuple(name for (name,) in names)
        return self._layouts[layout]


def _unpack(dtype_name: str, shape_json: str, data: bytes) -> np.ndarray:
    dtype, shape = np.dtype(dtype_name), tuple(json.loads(shape_json))
    size = math.prod(shape) * dtype.itemsize
    # Bounded by the declared size: a forged blob cannot unfold to more.
    flat = zlib.decompressobj().decompress(data, size + 1)
    if dtype.kind not in "biufc" or len(flat) != size:
        raise ValueError(f"{len(flat)} bytes do not make {dtype_name} of shape {shape}")
    planes = np.frombuffer(flat, np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype).reshape(shape)
