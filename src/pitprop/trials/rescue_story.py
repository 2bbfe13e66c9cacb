"""What a report tells of a rescue beside its comparisons: the way back through the snapshots, and what was changed."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitprop.trials.interventions.load_state import LoadState
from pitprop.trials.rescued import RECORD
from pitprop.trials.run import RunSpec

if TYPE_CHECKING:
    from pitprop.trials.recovery import Rescue


def story(result: "Rescue", control: RunSpec, winner: RunSpec | None = None) -> dict[str, Any]:
    """The part `rescue` of `trial.json`, as JSON values.

    Args:
        result: The rescue.
        control: The run that goes on as it is, which was watched where the checkpoint's own run is not known.
        winner: The run whose state was written.
    """
    origin = result.origin
    trace = str(origin.run) if origin.run else f"watched/{control.address}"
    start = next((i for i in winner.interventions if isinstance(i, LoadState)), None) if winner else None
    return {
        "collapsed": origin.collapsed.path,
        "good": origin.good.path if origin.good else None,
        "snapshots": list(origin.snapshots),
        "collapsed_step": snapshot_step(origin.collapsed),
        "good_step": snapshot_step(origin.good),
        "trace": trace,
        "after": {"trace": f"watched/{winner.address}", "begin": snapshot_step(start)} if winner else None,
        "checkpoint": str(result.checkpoint) if result.checkpoint else None,
        "written": json.loads((result.checkpoint / RECORD).read_text()) if result.checkpoint else None,
    }


def snapshot_step(state: LoadState | None) -> int | None:
    """Steps that the run had taken at a snapshot of a watch; None of any other checkpoint."""
    match = re.fullmatch(r"step-(\d+)", Path(state.path).name) if state else None
    return int(match[1]) if match else None
