import pytest

from pitprop.records import RunInfo


@pytest.fixture
def info():
    return RunInfo(
        name="run ü",
        started="2026-11-21T10:00:00+00:00",
        command=("python", "train.py", "--lr", "0.1"),
        config={"lr": 0.1, "layers": [1, 2], "nested": {"gate": None}},
        packages={"numpy": "2.0"},
        git_commit="abc+dirty",
        seed=3,
        device="cpu",
    )
