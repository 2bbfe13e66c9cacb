"""`import pitprop` stays light, the layers hold, and these tests can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIGHT = (
    "import pitprop",
    "import pitprop.records, pitprop.indicators, pitprop.trace, pitprop.rules, pitprop.report",
    "import pitprop.remedies, pitprop.cases, pitprop.checks",
    "import pitprop.cli; pitprop.cli.main(['list', 'rules'])",
)


def frameworks_loaded_by(code: str) -> str:
    """Names of the frameworks that a fresh interpreter has loaded after `code`."""
    inspect = (
        "import contextlib, io, sys\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    {code}\n"
        "print(sorted({'torch', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", inspect], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("code", LIGHT)
def test_no_framework_is_imported(code):
    assert frameworks_loaded_by(code) == "[]"


def test_the_test_above_can_fail():
    assert frameworks_loaded_by("import torch") == "['torch']"


def test_public_names_exist():
    import pitprop

    for name in pitprop.__all__:
        assert getattr(pitprop, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'monitor'"):
        _ = pitprop.monitor


def test_layers_hold():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_files_stay_small():
    """400 lines are the alarm of the design."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "src").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long
