"""The trace file: its tables, how it is opened, and what SQLite's complaints mean. `docs/trace.md` is its page.

A vector is a packed little-endian float32 blob because SQLite has no NaN: it stores a NaN number as NULL. In a blob
every NaN, infinity, signed zero and subnormal keeps its bits, and a site that was not measured is not in the layout.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pitprop._errors import PitpropError

FILE = "trace.sqlite"
APPLICATION_ID = 0x70697470  # "pitp"; file(1) and every other SQLite tool show it
PAGE = "docs/trace.md"

_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE sites (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE indicators (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE layouts (id INTEGER PRIMARY KEY, sites TEXT NOT NULL UNIQUE)",
    """CREATE TABLE measurements (
        id INTEGER PRIMARY KEY,
        step INTEGER NOT NULL,
        indicator INTEGER NOT NULL REFERENCES indicators (id),
        layout INTEGER NOT NULL REFERENCES layouts (id),
        vector BLOB NOT NULL,
        UNIQUE (indicator, layout, step)
    )""",
    "CREATE INDEX measurements_by_step ON measurements (step)",
    """CREATE TABLE arrays (
        id INTEGER PRIMARY KEY,
        step INTEGER NOT NULL,
        site INTEGER NOT NULL REFERENCES sites (id),
        name TEXT NOT NULL,
        dtype TEXT NOT NULL,
        shape TEXT NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (name, step, site)
    )""",
)
_APPEND_ONLY = tuple(
    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, 'a trace is append-only'); END"
    for table in ("sites", "indicators", "layouts", "measurements", "arrays")
    for verb in ("UPDATE", "DELETE")
)

MIGRATIONS: tuple[tuple[str, ...], ...] = ((*_TABLES, *_APPEND_ONLY),)
"""Statements that lead from schema version i to i + 1; the current version is the length. Entries never change."""


def is_trace(path: Path) -> bool:
    """Whether `path` is a trace of ours; False where there is no file or an empty one.

    Reads the first 100 bytes only, so nobody else's file is ever opened as a database.

    Raises:
        PitpropError: The file is unreadable, not SQLite, or another program's database.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise PitpropError(f"cannot read {path}: {error.strerror}", do="check the path and its permissions") from error
    if not head:
        return False
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        seen = f"{path} is not an SQLite file"
    elif int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        seen = f"{path} is an SQLite file of another program"
    else:
        return True
    raise PitpropError(
        seen, means="It is not a pitprop trace; it was not touched.", do="choose another run folder", read=PAGE
    )


def connect(path: Path, options: str) -> sqlite3.Connection:
    """Connection in autocommit mode; `options` is the query part of SQLite's URI (`mode=ro`, `mode=rwc`, ...)."""
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Connection that changes neither the file nor its folder, also while a writer is at work."""
    with path.open("rb") as file:
        uses_wal = file.read(20)[18] == 2
    # A WAL file without its log (copied alone) would make SQLite create one; immutable reads it as it lies.
    alone = uses_wal and not path.with_name(path.name + "-wal").exists()
    return connect(path, "mode=ro&immutable=1" if alone else "mode=ro")


def version(connection: sqlite3.Connection) -> int:
    """Schema version of the file; 0 is an empty one."""
    return connection.execute("PRAGMA user_version").fetchone()[0]


def migrate(connection: sqlite3.Connection, path: Path) -> int:
    """Brings the file to the current schema, inside the caller's transaction if there is one.

    Returns:
        The version that was found; 0 means that the tables are new.

    Raises:
        PitpropError: The file was written by a newer pitprop.
    """
    found = version(connection)
    if found > len(MIGRATIONS):
        raise PitpropError(
            f"{path} has trace schema version {found}; this pitprop knows versions up to {len(MIGRATIONS)}",
            means="A newer pitprop wrote it; reading it with this one could misread it.",
            do="update pitprop",
            read=PAGE,
        )
    for statements in MIGRATIONS[found:]:
        for statement in statements:
            connection.execute(statement)
    if found < len(MIGRATIONS):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    return found


@contextlib.contextmanager
def explained(path: Path, means: str = "") -> Iterator[None]:
    """Turns SQLite's errors into ours; `means` says what the failure of this operation means."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path, means) from error


def damaged(path: Path, what: str) -> PitpropError:
    """The error for a torn or altered trace; says how much of it are intact in it."""
    return PitpropError(
        f"{path} is damaged: {what}",
        means=_readable(path),
        do="put back a copy of the whole folder, or record the run again in a new one; nothing was changed",
        read=PAGE,
    )


def _explain(error: sqlite3.Error, path: Path, means: str) -> PitpropError:
    seen = f"{path}: {error}"
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        seen = f"{path}: its writer was killed in the middle of a write"
        return PitpropError(seen, means=means, do=f"let SQLite undo that write: `sqlite3 {path} .tables`", read=PAGE)
    match code & 0xFF:  # the low byte is the primary code
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(path, str(error))
        case sqlite3.SQLITE_CONSTRAINT:
            return PitpropError(seen, means=means, do="record each thing once, and change nothing recorded", read=PAGE)
        case sqlite3.SQLITE_FULL:
            return PitpropError(seen, means=means, do="free some space; the run may go on", read=PAGE)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return PitpropError(seen, means=means, do="end the other program that has this trace open", read=PAGE)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            do = "check the permissions of the folder, or copy the whole folder to one that can be written"
            return PitpropError(seen, means=means, do=do, read=PAGE)
    return PitpropError(seen, means=means, read=PAGE)


def _readable(path: Path) -> str:
    steps = []
    # The scan is meant to run into the damage; what it met before that is the answer.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect_read_only(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # lets SQLite open a file that is shorter than it should be
        for step, vector in connection.execute("SELECT step, vector FROM measurements NOT INDEXED"):
            if vector is not None:  # SQLite makes NULLs of what is not there
                steps.append(step)
    if not steps:
        return "None of its measurements can be read."
    return f"{len(steps)} of its measurements, up to step {max(steps)}, are intact in it."
