"""A trial of 16 short runs as a user's script: `python trial_in_a_process.py FOLDER local|ray`; and what the tests that
kill it look at.
"""

import sys
import time
from pathlib import Path

from pitprop.trials import Arm, Plan, run_plan
from pitprop.trials.interventions import Knob
from pitprop.trials.run import spec_source

RECIPE = f"{Path(__file__).with_name('recipes_tiny.py')}:guilty"


def plan() -> Plan:
    return Plan(
        recipe=RECIPE,
        source=spec_source(RECIPE),
        knobs={"failing": "slow"},
        arms=(Arm("open", (Knob("pool", "none"),)),),
        seeds=tuple(range(8)),
        metric="spread",
        horizon=100,
    )


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def runs(folder: Path) -> list[Path]:
    return sorted((folder / "runs").glob("*.json"))


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in runs(folder)}


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    below = children(pid)
    return below + [far for near in below for far in descendants(near)]


if __name__ == "__main__":
    run_plan(plan(), sys.argv[1], on=sys.argv[2], workers=2)
