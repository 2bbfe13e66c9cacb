from pathlib import Path

import pytest
from synthetic_run import run_folder

from pitprop.report import Report, build


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="session")
def report(folder: Path) -> Report:
    return build(folder)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report full of names that are markup."""
    return build(run_folder(tmp_path_factory.mktemp("hostile") / "run", hostile=True))
