"""Every number of a trace arrives at the trackers, under its name and step."""

import math
import sqlite3
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.integrations import sinks
from pitprop.records import RUN, RunInfo
from pitprop.trace import Writer
from pitprop.watch.histogram import EDGES, NAME, magnitudes

GRADIENT = np.float32([0, 2e-3, 5e-3, -40])


@pytest.fixture
def run(tmp_path):
    info = RunInfo(name="a", started="2026-11-22T10:00:00+00:00", config={"lr": 0.1})
    with Writer(tmp_path / "run", info) as writer:
        writer.append(0, {"loss": {RUN: 2.0}, "gradient_norm": {"encoder": 0.0, "dit": 1.5}})
        writer.append_array(0, "dit", NAME, magnitudes(GRADIENT))
        writer.append(7, {"loss": {RUN: math.nan}})
    return tmp_path / "run"


COUNTS = magnitudes(GRADIENT).tolist()
EXPECTED = [
    (0, "loss", 2.0),
    (0, "gradient_norm/encoder", 0.0),
    (0, "gradient_norm/dit", 1.5),
    (0, f"{NAME}/dit", COUNTS),
    (7, "loss", math.nan),
]


def counted(np_histogram):
    counts, edges = np_histogram
    assert edges is EDGES
    return counts.tolist()


def tensorboard(kept, monkeypatch):
    class SummaryWriter:
        def __init__(self, to):
            assert to.endswith("there")

        __enter__, __exit__ = lambda self: self, lambda self, *error: None

        def add_scalar(self, name, value, step):
            kept.append((step, name, value))

        def add_histogram_raw(self, name, *, global_step, bucket_counts, num, bucket_limits, **moments):
            assert (num, bucket_limits[-1]) == (4, EDGES[-1])
            assert moments["sum"] == pytest.approx(-10.25 - 2.75 - 2.25 + 1.75)
            kept.append((global_step, name, bucket_counts))

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    return sinks.to_tensorboard


def wandb(kept, monkeypatch):
    class Run:
        __enter__, __exit__ = lambda self: self, lambda self, *error: None

        def log(self, numbers, step):
            kept.extend((step, name, value) for name, value in numbers.items())

    def init(**given):
        ids.add(given.pop("id"))
        assert len(ids) == 1, "what is sent later belongs to the same run"
        expected = {"project": "there", "name": "a", "config": {"lr": 0.1}, "mode": "offline", "resume": None}
        assert given == expected
        return Run()

    ids = set()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Histogram=counted))
    return sinks.to_wandb


def trackio(kept, monkeypatch):
    calls = []
    fake = SimpleNamespace(
        init=lambda **given: calls.append(given["project"]),
        log=lambda numbers, step: kept.extend((step, name, value) for name, value in numbers.items()),
        finish=lambda: calls.append("finished"),
        Histogram=counted,
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    return sinks.to_trackio


@pytest.mark.parametrize("tracker", [tensorboard, wandb, trackio])
def test_every_number_arrives_once(run, monkeypatch, tracker):
    kept = []
    send = tracker(kept, monkeypatch)
    last = send(run, "there")
    assert last == 7 and send(run, "there", after=last) == 7
    assert sorted(map(str, kept)) == sorted(map(str, EXPECTED))


@pytest.mark.parametrize(
    ("send", "package"),
    [(sinks.to_tensorboard, "tensorboardX"), (sinks.to_wandb, "wandb"), (sinks.to_trackio, "trackio")],
)
def test_a_missing_tracker_is_explained(run, monkeypatch, send, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PitpropError, match=rf"`{package}` is not installed.\nDo: pip install 'pitprop\[sinks\]'"):
        send(run, "there")


def test_event_files_hold_the_numbers(run, tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    assert sinks.to_tensorboard(run, tmp_path / "logs") == 7
    found = []
    for path in (tmp_path / "logs").iterdir():
        data = path.read_bytes()
        while data:  # a record is its length (8 bytes), a checksum (4), the event, and a checksum (4)
            length = int(np.frombuffer(data[:8], "<u8")[0])
            event = Event.FromString(data[12 : 12 + length])
            found += [
                (event.step, v.tag, [int(count) for count in v.histo.bucket] if v.HasField("histo") else v.simple_value)
                for v in event.summary.value
            ]
            data = data[16 + length :]
    assert sorted(map(str, found)) == sorted(map(str, EXPECTED))


@pytest.mark.slow
def test_weights_and_biases_takes_them(run, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert sinks.to_wandb(run, "there") == 7
    wandb.teardown()  # its own process writes, and at the end of it all is written
    [kept] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    data = kept.read_bytes()
    assert all(name.encode() in data for _, name, _ in EXPECTED)
    assert b'"histogram"' in data and str(COUNTS).replace(" ", "").encode() in data


@pytest.mark.slow
def test_trackio_takes_them(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    last = sinks.to_trackio(run, "there")
    assert sinks.to_trackio(run, "there", after=last) == 7
    with sqlite3.connect(tmp_path / "trackio" / "there.db") as kept:
        found = {step: bytes(text).decode() for step, text in kept.execute("SELECT step, metrics FROM metrics")}
        runs = kept.execute("SELECT DISTINCT run_id FROM metrics").fetchall()
    kept.close()
    assert set(found) == {0, 7} and len(runs) == 1
    assert all(f'"{name}"' in found[step] for step, name, _ in EXPECTED)
