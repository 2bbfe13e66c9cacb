"""`trial.json`: what a report of a trial needs, and nothing else (design note 001 has the form)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pitprop.records import Comparison
from pitprop.trials.conclude import Conclusion
from pitprop.trials.execute import Results, metric_of, write_json
from pitprop.trials.guards import Guard
from pitprop.trials.plan import Plan
from pitprop.trials.proof import ForkProof
from pitprop.trials.run import to_json_number

if TYPE_CHECKING:
    from pitprop.trials.diagnosis import Diagnosis
    from pitprop.trials.recovery import Rescue


SCHEMA = 1
"""Raised when a reader of the last one could not read the file."""


def write_trial(
    found: "Diagnosis | Rescue",
    results: Results,
    command: Sequence[str],
    *,
    fork: ForkProof | None = None,
    guards: Sequence[Guard] = (),
    beside: Mapping[str, Any],
) -> None:
    """Write what two rounds found to its folder.

    Args:
        found: The result.
        results: Records of all runs, for what they cost.
        command: The command line that makes it again.
        fork: Proof of the fork, where there is one.
        guards: Effects on the metrics that don't decide.
        beside: What else the file is to hold.
    """
    content = trial_content(
        plan=found.plan,
        rounds={"screen": found.screen, "confirm": found.confirm},
        fork=fork,
        conclusion=found.conclusion,
        failed=found.failed,
        guards=guards,
        timing=timing(results),
        command=command,
        wall_s=found.wall_s,
    )
    write_json(found.folder / "trial.json", content | {key: json_ready(value) for key, value in beside.items()})


def trial_content(
    *,
    plan: Plan | None,
    rounds: Mapping[str, Sequence[Comparison]],
    fork: ForkProof | None,
    conclusion: Conclusion,
    guards: Sequence[Guard] = (),
    failed: Sequence[Mapping[str, Any]],
    timing: Mapping[str, float],
    command: Sequence[str],
    wall_s: float,
) -> dict[str, Any]:
    """The file's content, JSON values; numbers that are not finite are the strings "nan", "inf" and "-inf"."""
    return {
        "schema": SCHEMA,
        "plan": plan.to_dict() if plan else {},
        "plan_hash": plan.hash if plan else "",
        "command": list(command),
        "fork": fork.to_dict() if fork else {},
        "comparisons": [json_ready(asdict(c)) | {"round": name} for name, cs in rounds.items() for c in cs],
        "conclusion": json_ready(asdict(conclusion)),
        "guards": [json_ready(asdict(g)) for g in guards],
        "failed": list(failed),
        "timing": json_ready(dict(timing)),
        "wall_s": wall_s,
    }


def timing(results: Results) -> dict[str, float]:
    """What the runs cost."""
    done = [record for record in results.values() if record["status"] == "done"]
    return {
        "runs": len(done),
        "restarted_runs": sum(record["restarts"] > 0 for record in results.values()),
        "training_s_per_run": _mean([record["training_s"] for record in done]),
        "engine_ms_per_run": 1000 * _mean([record["engine_s"] for record in done]),
    }


def failed_runs(results: Results, metric: str) -> tuple[dict[str, Any], ...]:
    """Runs that gave no number to compare, with the reason: arm, seed, error."""
    return tuple(
        {"arm": arm, "seed": seed, "error": record["error"] or _not_finite(record, metric)}
        for (arm, seed), record in results.items()
        if not math.isfinite(metric_of(record, metric))
    )


def _not_finite(record: Mapping[str, Any], metric: str) -> str:
    since = "" if record["diverged"] is None else f"; its loss was not finite from step {record['diverged']} on"
    return f"it ended with {metric} = {record['metrics'][metric]}{since}"


def json_ready(value: Any) -> Any:
    """`value` as JSON values: NaN and infinities as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [json_ready(item) for item in value]
    return to_json_number(value) if isinstance(value, float) else value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
