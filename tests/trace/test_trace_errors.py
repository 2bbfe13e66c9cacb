"""Bad input: one clear message each, and nothing that was there is touched."""

import sqlite3

import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.records import RUN
from pitprop.trace import Reader, Writer, schema


def failure(call, *arguments, **options):
    with pytest.raises(PitpropError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_no_such_folder_no_trace_and_the_run_below(tmp_path, info):
    assert f"there is no run folder {tmp_path / 'no'}" in failure(Reader, tmp_path / "no")
    assert f"there is no trace in {tmp_path}" in failure(Reader, tmp_path)
    Writer(tmp_path / "run-a", info).close()
    assert f"did you mean `{tmp_path / 'run-a'}`?" in failure(Reader, tmp_path)


@pytest.mark.parametrize("exist", ["refuse", "replace", "resume"])
@pytest.mark.parametrize("kind", ["text", "sqlite"])
def test_files_of_others_are_refused_and_never_touched(tmp_path, info, exist, kind):
    path = tmp_path / schema.FILE
    if kind == "text":
        path.write_bytes(b"dear diary\n" * 20)
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE diary (line TEXT)")
        connection.close()
    before = path.read_bytes()
    for message in (failure(Writer, tmp_path, info, exist=exist), failure(Reader, tmp_path)):
        assert ("is not an SQLite file" if kind == "text" else "SQLite file of another program") in message
        assert "not touched" in message
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_existing_trace_is_refused_with_the_choices(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"loss": {RUN: 1.0}})
        assert "holds a trace already" in failure(Writer, tmp_path, info)  # also while it is open
    before = (tmp_path / schema.FILE).read_bytes()
    message = failure(Writer, tmp_path, info)
    assert "holds a trace already" in message and 'exist="resume"' in message and 'exist="replace"' in message
    assert (tmp_path / schema.FILE).read_bytes() == before
    assert "give `refuse`, `replace` or `resume`" in failure(Writer, tmp_path, info, exist="overwrite")


def test_an_empty_file_is_no_trace(tmp_path, info):
    (tmp_path / schema.FILE).touch()
    assert "there is no trace" in failure(Reader, tmp_path)
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"loss": {RUN: 1.0}})
    with Reader(tmp_path) as reader:
        assert reader.last_step == 0


def test_an_unwritable_folder(tmp_path, info):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run", "/dev/null/run"):
        message = failure(Writer, folder, info)
        assert f"cannot make the run folder {folder}" in message and "choose another run folder" in message


def test_a_folder_where_the_file_should_be(tmp_path, info):
    (tmp_path / schema.FILE).mkdir()
    assert "cannot read" in failure(Writer, tmp_path, info)
    assert "cannot read" in failure(Reader, tmp_path)


def test_steps_never_go_backwards(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.append(5, {"loss": {RUN: 1.0}})
        message = failure(writer.append, 4, {"loss": {RUN: 1.0}})
        assert "step 4 comes after step 5" in message and "go on at step 5 or later" in message
        assert "step 3 comes after" in failure(writer.append_array, 3, "a", "map", np.zeros(2))
    with Writer(tmp_path, info, exist="resume") as writer:
        assert "go on at step 6 or later" in failure(writer.append, 5, {"other": {RUN: 1.0}})
        writer.append(6, {"loss": {RUN: 1.0}})


@pytest.mark.parametrize("step", [-1, 2**63, 1.0, "1", None])
def test_a_step_is_a_count(tmp_path, info, step):
    with Writer(tmp_path, info) as writer:
        assert "is not a count" in failure(writer.append, step, {"loss": {RUN: 1.0}})
        assert "is not a count" in failure(writer.append_array, step, RUN, "map", np.zeros(2))


@pytest.mark.parametrize("value", [None, "1.5", b"1", 1j, [1.0], 10**400])
def test_a_value_is_a_number(tmp_path, info, value):
    with Writer(tmp_path, info) as writer:
        message = failure(writer.append, 0, {"loss": {RUN: value}})
        assert "'loss'" in message and RUN in message and "left out" in message
        assert "{indicator: {site: value}}" in failure(writer.append, 0, {"loss": value})
    with Reader(tmp_path) as reader:
        assert reader.last_step is None


def test_a_measurement_is_made_once(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"x": {"a": 1.0, "b": 1.0}})
        writer.append(0, {"x": {"c": 1.0}})
        assert "'x' was measured twice in step 0, at 'b'" in failure(writer.append, 0, {"x": {"d": 1.0, "b": 2.0}})
        writer.append_array(1, "a", "map", np.zeros(1))
        writer.append(1, {"x": {"b": 2.0}})
    with Reader(tmp_path) as reader:
        assert [(row.step, row.site) for row in reader.rows()] == [(0, "a"), (0, "b"), (0, "c"), (1, "b")]


def test_other_bad_input_to_the_writer(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        assert "dtype object" in failure(writer.append_array, 0, "a", "map", np.array([{}]))
        assert "not JSON serializable" in failure(writer.set_meta, "coverage", {1j})
        assert "belongs to the trace itself" in failure(writer.set_meta, "info", {})
        assert "cannot be a name" in failure(writer.append, 0, {"x": {3: 1.0}})
    writer.close()  # twice is fine
    assert "is closed" in failure(writer.append, 0, {"loss": {RUN: 1.0}})


def test_unknown_names_suggest_known_ones(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"gradient_norm": {"encoder.0": 1.0}})
    with Reader(tmp_path) as reader:
        assert "did you mean `gradient_norm`?" in failure(reader.sites, "gradient_nrom")
        assert "did you mean `encoder.0`?" in failure(reader.series, "gradient_norm", "encoder.1")
        assert "no array 'map' of step 0 at 'encoder.0'" in failure(reader.array, "map", 0, "encoder.0")
    assert "closed" in failure(reader.indicators)


def test_altered_blobs_are_errors(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        for name in ("good", "short", "bomb", "object", "noise"):
            writer.append_array(0, "a", name, np.zeros(1000, np.float32))
        writer.append(0, {"x": {"a": 1.0, "b": 1.0}})
    connection = sqlite3.connect(tmp_path / schema.FILE)
    for table in ("arrays", "measurements"):
        connection.execute(f"DROP TRIGGER {table}_no_update")
    connection.execute("UPDATE arrays SET shape = '[1001]' WHERE name = 'short'")
    connection.execute("UPDATE arrays SET shape = '[2]' WHERE name = 'bomb'")
    connection.execute("UPDATE arrays SET dtype = '|O' WHERE name = 'object'")
    connection.execute("UPDATE arrays SET data = x'00ff00ff' WHERE name = 'noise'")
    connection.execute("UPDATE measurements SET vector = x'00ff00ff00'")
    connection.commit()
    connection.close()
    with Reader(tmp_path) as reader:
        assert reader.array("good", 0, "a").shape == (1000,)
        for name in ("short", "bomb", "object", "noise"):
            assert "is damaged" in failure(reader.array, name, 0, "a")
        assert "has 5 bytes" in failure(lambda: list(reader.rows()))
        assert "too short" in failure(reader.series, "x", "b")


def test_a_newer_version_is_refused(tmp_path, info, monkeypatch):
    with Writer(tmp_path, info) as writer:
        writer.append(0, {"loss": {RUN: 1.0}})
    connection = sqlite3.connect(tmp_path / schema.FILE)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    before = (tmp_path / schema.FILE).read_bytes()
    for message in (failure(Reader, tmp_path), failure(Writer, tmp_path, info, exist="resume")):
        assert "schema version 9" in message and "versions up to 1" in message and "update pitprop" in message
    assert (tmp_path / schema.FILE).read_bytes() == before


def test_an_older_version_is_read_in_memory_and_migrated_by_resuming(tmp_path, info, monkeypatch):
    with Writer(tmp_path, info) as writer:  # a true file of version 1
        writer.append(0, {"loss": {RUN: 1.0}})
    before = (tmp_path / schema.FILE).read_bytes()

    newer = ("ALTER TABLE sites ADD COLUMN kind TEXT", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, newer))
    with Reader(tmp_path) as reader:
        assert [row.step for row in reader.rows()] == [0] and reader.info == info
        assert reader._query("SELECT name, kind FROM sites") == [(RUN, None)]
    assert (tmp_path / schema.FILE).read_bytes() == before, "reading migrates a copy in memory"

    with Writer(tmp_path, info, exist="resume") as writer:
        assert schema.version(writer._connection) == 2 and writer.last_step == 0
        assert writer._connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    with Reader(tmp_path) as reader:
        assert [row.step for row in reader.rows()] == [0]

    broken = ("CREATE TABLE more (id INTEGER PRIMARY KEY)", "CREATE TABLE notes (id INTEGER PRIMARY KEY)")
    before = (tmp_path / schema.FILE).read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
    assert "notes already exists" in failure(Writer, tmp_path, info, exist="resume")
    assert (tmp_path / schema.FILE).read_bytes() == before, "a migration happens as a whole or not at all"


def test_another_process_that_was_quicker_is_not_overwritten(tmp_path, info, monkeypatch):
    Writer(tmp_path, info).close()
    monkeypatch.setattr(schema, "is_trace", lambda path: False)  # it came between the look and the opening
    assert "holds a trace already" in failure(Writer, tmp_path, info)


def test_a_locked_trace(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        other = sqlite3.connect(tmp_path / schema.FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writer._connection.execute("PRAGMA busy_timeout = 0")
        message = failure(writer.append, 0, {"loss": {RUN: 1.0}})
        assert "locked" in message and "end the other program" in message
        other.execute("ROLLBACK")
        other.close()
        writer.append(0, {"loss": {RUN: 1.0}})
