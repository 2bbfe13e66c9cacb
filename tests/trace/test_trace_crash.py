"""Kill it, tear it, fill its disk, read it meanwhile: the acknowledged stays readable, the rest is one clear error."""

import hashlib
import itertools
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.records import RUN
from pitprop.trace import Reader, Writer, schema

WRITER = """
import sys, sqlite3
from pitprop.records import RunInfo
from pitprop.trace import Writer
if sys.argv[2] == "no-wal":  # a file system without shared memory, as SQLite sees it
    connect = sqlite3.connect
    sqlite3.connect = lambda name, **options: connect(name + "&vfs=unix-dotfile", **options)
writer = Writer(sys.argv[1], RunInfo(name="killed", started="2026-11-21T10:00:00+00:00"), exist="resume")
step = 0 if writer.last_step is None else writer.last_step + 1
while True:
    writer.append(step, {n: {f"layer.{i}": step + i for i in range(50)} for n in ("a", "b")})
    sys.stdout.buffer.write(b"%d\\n" % step)
    sys.stdout.buffer.flush()
    step += 1
"""


def run_and_kill(folder, seconds, mode="wal"):
    """Runs a writer, kills it with SIGKILL after `seconds` of writing, and returns the steps it acknowledged."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder), mode], stdout=subprocess.PIPE)
    first = process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    rest, _ = process.communicate()
    assert process.returncode == -9
    # The last line may be cut: then its step was acknowledged to nobody.
    return [int(line) for line in (first + rest).split(b"\n")[:-1]]


def check_whole(rows, acknowledged):
    steps = sorted({row.step for row in rows})
    assert set(acknowledged) <= set(steps)
    assert steps == list(range(len(steps)))
    assert len(rows) == 50 * len(steps), "a step is there as a whole or not at all"
    for row in rows:
        assert set(row.values.values()) == {float(row.step + int(row.site.split(".")[1]))} and len(row.values) == 2


def test_every_acknowledged_row_survives_kill_9(tmp_path):
    moments = random.Random(0)
    acknowledged = []
    for _ in range(6):  # the same trace is killed and resumed again and again
        acknowledged += run_and_kill(tmp_path, moments.uniform(0, 0.15))
        assert (tmp_path / "trace.sqlite-wal").exists(), "it was killed before it could close"
        before = {path.name: digest(path) for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
        with Reader(tmp_path) as reader:
            check_whole(list(reader.rows()), acknowledged)
        after = {path.name: digest(path) for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
        assert before == after, "reading a killed trace changes nothing"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_kill_9_without_wal(tmp_path):
    acknowledged = run_and_kill(tmp_path, 0.3, "no-wal")
    assert not (tmp_path / "trace.sqlite-wal").exists()
    try:
        with Reader(tmp_path) as reader:
            check_whole(list(reader.rows()), acknowledged)
    except PitpropError as error:  # killed in the middle of a commit: SQLite may only undo it by writing
        assert "killed in the middle of a write" in error.seen and "sqlite3" in error.do
        sqlite3.connect(tmp_path / "trace.sqlite").execute("SELECT * FROM sites").close()
        with Reader(tmp_path) as reader:
            check_whole(list(reader.rows()), acknowledged)


def test_a_trace_works_where_sqlite_refuses_wal(tmp_path, info, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **options: connect(name + "&vfs=unix-dotfile", **options))
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"loss": {RUN: 1.0}})
        assert writer._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        with Reader(tmp_path) as reader:
            assert [row.step for row in reader.rows()] == [0]
        writer.append(1, {"loss": {RUN: 1.0}})
    with Reader(tmp_path) as reader:
        assert reader.last_step == 1


def test_a_hot_journal_is_named(tmp_path, info):
    with Writer(tmp_path / "a", info) as writer:
        for step in range(50):
            writer.append(step, {"loss": {RUN: 1.0}})
    # A commit that was cut short, as a killed rollback-journal writer leaves it.
    connection = sqlite3.connect(tmp_path / "a" / schema.FILE, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("PRAGMA cache_spill = 1")
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE filler (x)")
    connection.executemany("INSERT INTO filler VALUES (?)", [(b"x" * 4000,)] * 50)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    connection.close()
    assert (tmp_path / "b" / "trace.sqlite-journal").stat().st_size > 0
    with pytest.raises(PitpropError, match="killed in the middle of a write"):
        Reader(tmp_path / "b")
    with Writer(tmp_path / "b", info, exist="resume") as writer:
        assert writer.last_step == 49


def test_reading_while_writing(tmp_path, info):
    with Writer(tmp_path, info) as writer, Reader(tmp_path) as reader:
        last = -1
        for step in range(600):
            writer.append(step, {"loss": {RUN: step}})
            if step % 7 == 0:
                new = list(reader.rows(after=last))
                assert [row.step for row in new] == list(range(last + 1, step + 1))
                last = step
        lazily = reader.rows()
        assert next(lazily).step == 0
        writer.append(600, {"loss": {RUN: 0.0}})  # a half-read iteration is in nobody's way
        assert [row.step for row in lazily] == list(range(1, 601))


def test_a_reader_in_another_process_while_writing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "wal"], stdout=subprocess.PIPE)
    try:
        for _ in range(20):
            acknowledged = int(process.stdout.readline())
            with Reader(tmp_path) as reader:
                assert reader.last_step >= acknowledged
                first = list(itertools.islice(reader.rows(after=acknowledged - 1), 50))
            assert {row.step for row in first} == {acknowledged} and len(first) == 50
    finally:
        process.kill()
        process.communicate()


def test_a_closed_trace_is_one_plain_file_and_reading_leaves_nothing_behind(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"loss": {RUN: 1.0}})
    assert os.listdir(tmp_path) == ["trace.sqlite"]
    before = digest(tmp_path / "trace.sqlite")
    with Reader(tmp_path) as reader:
        list(reader.rows())
        assert os.listdir(tmp_path) == ["trace.sqlite"]
        with pytest.raises(PitpropError, match="readonly"):
            reader._query("DELETE FROM meta")
    assert os.listdir(tmp_path) == ["trace.sqlite"] and digest(tmp_path / "trace.sqlite") == before


def test_closing_while_somebody_reads_keeps_everything(tmp_path, info):
    writer = Writer(tmp_path / "a", info)
    writer.append(0, {"loss": {RUN: 1.0}})
    with Reader(tmp_path / "a") as reader:
        assert reader.last_step == 0
        writer.close()
        assert reader.last_step == 0
    # The database alone, without its log, as somebody may copy it: still a WAL file, read as it lies.
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "trace.sqlite", tmp_path / "b")
    for folder in ("a", "b"):
        with Reader(tmp_path / folder) as reader:
            assert [row.step for row in reader.rows()] == [0]
    assert os.listdir(tmp_path / "b") == ["trace.sqlite"]


def write_much(folder, info, steps=400):
    with Writer(folder, info) as writer:
        for step in range(steps):
            writer.append(step, {"x": {f"layer.{i}": step for i in range(200)}})


@pytest.mark.parametrize("share", [0.95, 0.5, 0.15])
def test_a_truncated_trace_says_how_much_can_be_read(tmp_path, info, share):
    write_much(tmp_path, info)
    path = tmp_path / schema.FILE
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(PitpropError) as caught:
        Reader(tmp_path)
    assert "is damaged" in caught.value.seen and "put back a copy" in caught.value.do
    count, last = (int(word) for word in re.findall(r"\d+", caught.value.means))
    # The first pages hold the names; from then on pages and rows go in step.
    assert 400 * (share - 0.15) < count <= last + 1 < 400 * share
    with pytest.raises(PitpropError, match="is damaged"):
        Writer(tmp_path, info, exist="resume")


@pytest.mark.parametrize("size", [0, 50, 100, 2000, 5000])
def test_a_trace_cut_to_its_first_bytes_is_an_error(tmp_path, info, size):
    write_much(tmp_path, info, steps=20)
    os.truncate(tmp_path / schema.FILE, size)
    with pytest.raises(PitpropError, match=r"there is no trace|is not an SQLite file|None of its measurements"):
        Reader(tmp_path)


def test_damage_in_the_middle_is_met_while_reading(tmp_path, info):
    write_much(tmp_path, info)
    path = tmp_path / schema.FILE
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    with Reader(tmp_path) as reader, pytest.raises(PitpropError, match=r"is damaged(.|\n)*measurements, up to step"):
        list(reader.rows())


@pytest.mark.parametrize("cut", [1, 37, 5000, 100_000])
def test_a_torn_log_loses_its_tail_only(tmp_path, info, cut):
    writer = Writer(tmp_path / "a", info)
    for step in range(100):
        writer.append(step, {"x": {f"layer.{i}": step for i in range(50)}})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    writer.close()
    log = tmp_path / "b" / "trace.sqlite-wal"
    os.truncate(log, max(0, log.stat().st_size - cut))
    with Reader(tmp_path / "b") as reader:
        steps = sorted({row.step for row in reader.rows()})
    assert steps == list(range(len(steps))) and len(steps) < 100
    assert cut > 5000 or len(steps) > 90


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_when_there_is_space(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
        with pytest.raises(PitpropError) as caught:
            for step in range(1000):
                writer.append(step, {"x": {f"layer.{step}.{i}": 1.0 for i in range(50)}})
        assert "full" in caught.value.seen and "everything before it is in the trace" in caught.value.means
        assert "free some space" in caught.value.do
        writer._connection.execute("PRAGMA max_page_count = 100000")
        writer.append(step, {"x": {f"layer.{step}.{i}": 2.0 for i in range(50)}})
    with Reader(tmp_path) as reader:
        rows = list(reader.rows())
    assert step > 0 and len(rows) == 50 * (step + 1)
    assert all(row.site.startswith(f"layer.{row.step}.") for row in rows), "no name of the lost call is left"
    assert {row.values["x"] for row in rows if row.step == step} == {2.0}


def test_a_failing_call_records_nothing_and_names_are_not_lost(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"x": {"a": 1.0}})
        writer.append_array(0, "b", "map", np.zeros(3))
        with pytest.raises(PitpropError, match="UNIQUE"):
            writer.append_array(0, "b", "map", np.zeros(3))
        with pytest.raises(PitpropError, match="cannot be a name"):
            writer.append(1, {"x": {"c": 1.0}, "y": {"\ud800": 1.0}})
        writer.append(1, {"z": {"d": 1.0, "c": 2.0}})
    with Reader(tmp_path) as reader:
        assert reader.indicators() == ("x", "z") and reader.sites("z") == ("d", "c")
        assert [(row.step, row.site) for row in reader.rows()] == [(0, "a"), (1, "d"), (1, "c")]


@pytest.mark.parametrize("table", ["measurements", "arrays", "sites", "indicators", "layouts"])
def test_the_file_itself_is_append_only(tmp_path, info, table):
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"x": {"a": 1.0}})
        writer.append_array(0, "b", "map", np.zeros(3))
        for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET id = id + 1"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                writer._connection.execute(sql)


def test_a_forked_child_may_not_write(tmp_path, info):
    script = """
import os, sys
from pitprop import PitpropError
from pitprop.records import RunInfo
from pitprop.trace import Writer
writer = Writer(sys.argv[1], RunInfo(name="fork", started="now"))
writer.append(0, {"loss": {"<run>": 1.0}})
if os.fork() == 0:
    try:
        writer.append(1, {"loss": {"<run>": 2.0}})
    except PitpropError as error:
        writer.close()
        os._exit(7 if "forked process" in str(error) else 8)
    os._exit(9)
_, status = os.wait()
writer.append(2, {"loss": {"<run>": 3.0}})
writer.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 7
    with Reader(tmp_path) as reader:
        assert [row.step for row in reader.rows()] == [0, 2]
