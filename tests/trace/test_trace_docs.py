"""The page about the schema is true: its SQL runs, and it names every column."""

import re
import sqlite3
import struct
from pathlib import Path

import numpy as np

from pitprop.trace import Writer, schema

PAGE = (Path(__file__).parents[2] / schema.PAGE).read_text()


def test_the_queries_answer(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        for step in range(3):
            sites = {"blocks.2.attention": 0.5, "blocks.3.attention": step / 4}
            writer.append(step, {"attention_entropy": sites, "loss": {"<run>": 1.0}})
    connection = sqlite3.connect(tmp_path / schema.FILE)
    counts, places, series, run = (
        connection.execute(sql).fetchall() for sql in re.findall(r"```sql\n(.*?)```", PAGE, re.S)
    )
    connection.close()
    assert sorted(counts) == [("attention_entropy", 3, 0, 2), ("loss", 3, 0, 2)]
    assert places == [(1, 0, "blocks.2.attention"), (1, 1, "blocks.3.attention")]
    assert [(step, struct.unpack("<f", bytes.fromhex(word))[0]) for step, word in series] == [
        (0, 0.0),
        (1, 0.25),
        (2, 0.5),
    ]
    assert run == [(3, "abc+dirty", 0.1)]


def test_every_table_and_column_is_described(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.append_array(0, "a", "map", np.zeros(1))
        tables = writer._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        columns = {t: [c[1] for c in writer._connection.execute(f"PRAGMA table_info({t})")] for (t,) in tables}
    described = dict(re.findall(r"^\*\*`(\w+)`\*\*: (.*)$", PAGE, re.M))
    assert described.keys() == columns.keys()
    for table, names in columns.items():
        assert [name for name in names if f"`{name}`" not in described[table]] == []
    assert f"schema version {len(schema.MIGRATIONS)}" in PAGE and f"0x{schema.APPLICATION_ID:x}" in PAGE
