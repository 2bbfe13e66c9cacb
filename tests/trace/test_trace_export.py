"""The Parquet file says what the reader says."""

import json
import math
import sys

import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.trace import Reader, Writer, export_parquet, provenance

pq = pytest.importorskip("pyarrow.parquet")


def record(folder, info, steps=20):
    random = np.random.default_rng(0)
    with Writer(folder, info) as writer:
        for step in range(steps):
            sites = {f"ü.{i}": v for i, v in enumerate(random.normal(size=random.integers(1, 6)))}
            writer.append(step, {"x": sites, "y": {"ü.0": (math.nan, math.inf, -0.0)[step % 3]}})


@pytest.mark.parametrize("group", [1 << 18, 7])
def test_it_equals_the_reader(tmp_path, info, group, monkeypatch):
    monkeypatch.setattr("pitprop.trace.export._GROUP_VALUES", group)
    record(tmp_path / "run", info)
    export_parquet(tmp_path / "run", tmp_path / "run.parquet")
    table = pq.read_table(tmp_path / "run.parquet")
    assert [(field.name, str(field.type)) for field in table.schema][::3] == [("step", "int64"), ("value", "float")]
    assert table.column("value").null_count == 0
    columns = [table.column(name).to_pylist() for name in ("step", "indicator", "site", "value")]
    exported = {
        (step, name, site): np.float32(value).tobytes() for step, name, site, value in zip(*columns, strict=True)
    }
    assert columns[0] == sorted(columns[0]) and len(exported) == table.num_rows
    with Reader(tmp_path / "run") as reader:
        assert exported == {
            (row.step, name, row.site): np.float32(value).tobytes()
            for row in reader.rows()
            for name, value in row.values.items()
        }
    metadata = pq.read_schema(tmp_path / "run.parquet").metadata
    assert provenance.from_json(metadata[b"pitprop.info"].decode()) == info
    assert json.loads(metadata[b"pitprop.schema_version"]) == 1


def test_an_empty_trace_is_an_empty_table(tmp_path, info):
    Writer(tmp_path, info).close()
    export_parquet(tmp_path, tmp_path / "run.parquet")
    assert pq.read_table(tmp_path / "run.parquet").num_rows == 0


def test_an_old_file_is_replaced_whole_or_not_at_all(tmp_path, info, monkeypatch):
    record(tmp_path / "run", info)
    path = tmp_path / "out" / "run.parquet"
    path.parent.mkdir()
    path.write_bytes(b"old")

    def torn(self, after=-1):
        yield 0, "x", ("a",), np.zeros(1, np.float32)
        raise PitpropError("torn")

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "measurements", torn)
        with pytest.raises(PitpropError, match="torn"):
            export_parquet(tmp_path / "run", path)
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]
    export_parquet(tmp_path / "run", path)
    assert pq.read_table(path).num_rows > 0 and list(path.parent.iterdir()) == [path]


def test_errors(tmp_path, info, monkeypatch):
    record(tmp_path / "run", info)
    with pytest.raises(PitpropError, match="there is no run folder"):
        export_parquet(tmp_path / "none", tmp_path / "run.parquet")
    with pytest.raises(PitpropError, match="cannot write"):
        export_parquet(tmp_path / "run", tmp_path / "none" / "run.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(PitpropError, match=r"pip install 'pitprop\[parquet\]'"):
        export_parquet(tmp_path / "run", tmp_path / "run.parquet")
    assert not (tmp_path / "run.parquet").exists()
