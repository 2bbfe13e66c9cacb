"""What goes in comes out: every bit, every name, every absence."""

import math
import os
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pitprop.records import RUN, RunInfo
from pitprop.trace import Reader, Writer

INFO = RunInfo(name="run", started="2026-11-21T10:00:00+00:00")
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32))
STEPS = st.lists(st.dictionaries(NAMES, st.dictionaries(NAMES, FLOATS, max_size=4), max_size=3), max_size=6)


def bits(value):
    """The float32 bit pattern; every NaN counts as one, because hardware may set a NaN's quiet bit in a conversion."""
    return "nan" if math.isnan(value) else np.float32(value).tobytes()


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_every_bit_pattern_name_and_absence_survives(recorded):
    with tempfile.TemporaryDirectory() as folder:
        with Writer(folder, INFO) as writer:
            for step, measurements in enumerate(recorded):
                writer.append(step, measurements)
        expected = {
            (step, site, indicator): bits(value)
            for step, measurements in enumerate(recorded)
            for indicator, by_site in measurements.items()
            for site, value in by_site.items()
        }
        with Reader(folder) as reader:
            rows = list(reader.rows())
            found = {(r.step, r.site, name): bits(value) for r in rows for name, value in r.values.items()}
            assert found == expected
            assert [r.step for r in rows] == sorted(r.step for r in rows)
            assert len({(r.step, r.site) for r in rows}) == len(rows)
            for indicator in reader.indicators():
                for site in reader.sites(indicator):
                    steps, values = reader.series(indicator, site)
                    at = [step for step, s, name in expected if (s, name) == (site, indicator)]
                    assert steps.tolist() == at and steps.dtype == np.int64 and values.dtype == np.float32
                    assert [bits(v) for v in values] == [expected[step, site, indicator] for step in at]
            assert {(n, s) for n in reader.indicators() for s in reader.sites(n)} == {(n, s) for _, s, n in expected}


DTYPES = st.one_of(hnp.floating_dtypes(), hnp.integer_dtypes(), hnp.boolean_dtypes(), hnp.complex_number_dtypes())
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(DTYPES, SHAPES))
def test_arrays_keep_dtype_shape_and_bits(array):
    with tempfile.TemporaryDirectory() as folder, Writer(folder, INFO) as writer:
        writer.append_array(7, "site", "map", array)
        with Reader(folder) as reader:
            found = reader.array("map", 7, "site")
            assert reader.arrays("map") == [(7, "site")] and reader.arrays("other") == []
            assert reader.last_step == 7
    assert found.shape == array.shape and found.dtype == array.dtype.newbyteorder("<")
    assert found.tobytes() == array.astype(found.dtype).tobytes()


def test_a_strided_array_and_a_torch_half_are_recorded_by_value(tmp_path):
    torch = pytest.importorskip("torch")
    strided = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    half = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16, requires_grad=True)
    with Writer(tmp_path, INFO) as writer:
        writer.append_array(0, "a", "strided", strided)
        writer.append_array(0, "a", "half", half)
    with Reader(tmp_path) as reader:
        np.testing.assert_array_equal(reader.array("strided", 0, "a"), strided)
        np.testing.assert_array_equal(reader.array("half", 0, "a"), np.array([[1.5, -2.0]], np.float32))


def test_undefined_unmeasured_and_infinite_are_three_things(tmp_path):
    with Writer(tmp_path, INFO) as writer:
        writer.append(0, {"x": {"a": math.nan, "b": math.inf}})
        writer.append(1, {"x": {"a": -math.inf}, "y": {}})
        writer.append(2, {"x": {"b": 1e300, "a": 1e-300, "c": -0.0}})
    with Reader(tmp_path) as reader:
        rows = {(row.step, row.site): row.values for row in reader.rows()}
        assert math.isnan(rows[0, "a"]["x"]) and rows[0, "b"] == {"x": math.inf}
        assert rows[1, "a"] == {"x": -math.inf} and (1, "b") not in rows
        assert rows[2, "b"] == {"x": math.inf} and rows[2, "a"] == {"x": 0.0}
        assert math.copysign(1, rows[2, "c"]["x"]) == -1
        assert reader.indicators() == ("x",) and reader.sites("x") == ("a", "b", "c")
        steps, values = reader.series("x", "b")
        assert steps.tolist() == [0, 2] and values.tolist() == [math.inf, math.inf]


def test_one_step_may_be_appended_in_parts_and_comes_back_as_one_row_per_site(tmp_path):
    with Writer(tmp_path, INFO) as writer:
        writer.append(np.int64(5), {"loss": {RUN: 1}})
        writer.append(5, {"accuracy": {RUN: np.float32(0.5)}, "loss": {"head": 2.0}})
    with Reader(tmp_path) as reader:
        assert {row.site: dict(row.values) for row in reader.rows()} == {
            RUN: {"loss": 1.0, "accuracy": 0.5},
            "head": {"loss": 2.0},
        }


def test_rows_after_a_step_and_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("pitprop.trace.reader._CHUNK_STEPS", 3)
    with Writer(tmp_path, INFO) as writer:
        for step in range(0, 40, 2):
            writer.append(step, {"loss": {RUN: step}})
    with Reader(tmp_path) as reader:
        assert [row.step for row in reader.rows()] == list(range(0, 40, 2))
        assert [row.step for row in reader.rows(after=np.int64(11))] == list(range(12, 40, 2))
        assert list(reader.rows(after=38)) == []


def test_info_and_meta(tmp_path, info):
    with Writer(tmp_path, info) as writer:
        writer.set_meta("coverage", {"expected": 2, "seen": [1]})
        writer.set_meta("coverage", {"expected": 2, "seen": [1, 2]})
    with Reader(tmp_path) as reader:
        assert reader.info == info
        assert reader.meta("coverage") == {"expected": 2, "seen": [1, 2]}
        assert reader.meta("none") is None and reader.meta("none", 5) == 5
        assert reader.last_step is None and reader.indicators() == () and list(reader.rows()) == []


def test_resume_continues_after_the_last_step_and_keeps_the_first_info(tmp_path, info):
    with Writer(tmp_path, info, exist="resume") as writer:  # nothing to resume: a new trace
        assert writer.last_step is None
        writer.append(4, {"loss": {RUN: 1.0}})
        writer.append_array(6, "a", "map", np.zeros(2))
    with Writer(tmp_path, INFO, exist="resume") as writer:
        assert writer.last_step == 6
        writer.append(7, {"loss": {RUN: 2.0}, "new": {"b": 3.0}})
    with Reader(tmp_path) as reader:
        assert reader.info == info
        assert [again["name"] for again in reader.meta("resumed")] == ["run"]
        assert [(row.step, dict(row.values)) for row in reader.rows()] == [
            (4, {"loss": 1.0}),
            (7, {"loss": 2.0}),
            (7, {"new": 3.0}),
        ]


def test_replace_starts_again_and_leaves_other_files_alone(tmp_path, info):
    (tmp_path / "plan.json").write_text("{}")
    with Writer(tmp_path, info) as writer:
        writer.append(4, {"loss": {RUN: 1.0}})
    with Writer(tmp_path, INFO, exist="replace") as writer:
        writer.append(0, {"loss": {RUN: 2.0}})
    with Reader(tmp_path) as reader:
        assert reader.info == INFO and [row.step for row in reader.rows()] == [0]
    assert (tmp_path / "plan.json").read_text() == "{}"


@pytest.mark.parametrize(
    "name", ["sp ace", "per%20cent", "ques?tion", "ha#sh", "quo'te\"", "ünïcode", "semi;colon&mode=rw"]
)
def test_folders_with_special_characters(tmp_path, name, info):
    with Writer(tmp_path / name, info) as writer:
        writer.append(0, {"loss": {RUN: 1.0}})
    with Reader(tmp_path / name) as reader:
        assert reader.last_step == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert os.listdir(tmp_path / name) == ["trace.sqlite"]


def test_a_layout_is_stored_once(tmp_path):
    with Writer(tmp_path, INFO) as writer:
        for step in range(10):
            writer.append(step, {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 2}, "z": {RUN: 0}})
    with Reader(tmp_path) as reader:
        assert reader._query("SELECT sites FROM layouts") == [("[1, 2]",), ("[3]",)]


def test_a_series_runs_through_changing_layouts(tmp_path):
    layouts = [("a", "b"), ("c", "a"), ("b",)]
    with Writer(tmp_path, INFO) as writer:
        for step in range(30):
            writer.append(step, {"x": {site: step + ord(site) / 1000 for site in layouts[step % 3]}})
    with Reader(tmp_path) as reader:
        steps, values = reader.series("x", "a")
        assert steps.tolist() == [step for step in range(30) if step % 3 < 2]
        np.testing.assert_array_equal(values, (steps + 0.097).astype(np.float32))


def test_threads_share_a_writer(tmp_path):
    def work(name):
        for i in range(25):
            writer.append(0, {f"{name}{i}": {name: i}})

    with Writer(tmp_path, INFO) as writer:
        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Reader(tmp_path) as reader:
        assert {row.site: len(row.values) for row in reader.rows()} == dict.fromkeys("abcd", 25)
