"""`trial.json`: what a report of a trial needs, and nothing else (design note 001 has the form)."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pitprop.trials.execute import Results, write_json
from pitprop.trials.run import to_json_number

if TYPE_CHECKING:
    from pitprop.trials.diagnosis import Diagnosis
    from pitprop.trials.recovery import Rescue


def write_trial(diagnosis: "Diagnosis | Rescue", results: Results, command: Sequence[str]) -> None:
    """Write `diagnosis` to its folder.

    Args:
        diagnosis: What was found.
        results: Records of all runs, for what they cost.
        command: The command line that makes it again.
    """
    plan, rounds = diagnosis.plan, {"screen": diagnosis.screen, "confirm": diagnosis.confirm}
    done = [record for record in results.values() if record["status"] == "done"]
    data = {
        "plan": plan.to_dict() if plan else {},
        "plan_hash": plan.hash if plan else "",
        "command": list(command),
        "fork": diagnosis.fork.to_dict() | {"step": plan.fork_step} if diagnosis.fork and plan else {},
        "comparisons": [_json(asdict(c)) | {"round": name} for name, cs in rounds.items() for c in cs],
        "conclusion": _json(asdict(diagnosis.conclusion)),
        "failed": list(diagnosis.failed),
        "timing": {
            "runs": len(done),
            "training_s_per_run": _json(_mean([record["training_s"] for record in done])),
            "engine_ms_per_run": _json(1000 * _mean([record["engine_s"] for record in done])),
        },
        "wall_s": diagnosis.wall_s,
    }
    write_json(diagnosis.folder / "trial.json", data)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return to_json_number(value) if isinstance(value, float) else value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
