"""One pool of spawned workers for the whole room: starting one costs seconds (it imports torch)."""

from pathlib import Path

import pytest

from pitprop.trials.executors.local import Local


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    with Local(2, log=tmp_path_factory.mktemp("pool") / "workers.log") as workers:
        yield workers


@pytest.fixture(scope="session")
def reference():
    """`reference("recipes_tiny", "recipe")` -> the reference of a recipe beside this file."""
    folder = Path(__file__).parent
    return lambda file, attribute: f"{folder / file}.py:{attribute}"
