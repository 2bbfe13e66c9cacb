"""The new checkpoint that a rescue writes: weights, optimizer state, and what was changed; whole or not at all."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.conclude import effect_text
from pitprop.trials.execute import write_json
from pitprop.trials.interventions import Knob, LoadState, to_dict
from pitprop.trials.plan import Arm
from pitprop.trials.run import RunSpec, to_json_number
from pitprop.watch.state import MODEL, OPTIMIZER, whole_folder

README, RECORD = "README.txt", "rescue.json"

LOAD = f"""\
    import torch
    from safetensors.torch import load_file

    model.load_state_dict(load_file("{MODEL}"))
    optimizer.load_state_dict(torch.load("{OPTIMIZER}", weights_only=True))
"""


def write_rescued(
    folder: Path, state: Path, *, origin: LoadState, arm: Arm, spec: RunSpec, metric: float, comparison: Comparison
) -> Path:
    """Write the state at `state` as a checkpoint of its own under `folder`, named by the run that made it.

    Args:
        folder: Gets `rescued-<address>`; where that is there already, it is the same and is left alone.
        state: Checkpoint folder at the end of the winner's run.
        origin: The collapsed checkpoint.
        arm: The winner.
        spec: Its run.
        metric: The metric at the end of that run.
        comparison: The winner against going on as it is, on fresh seeds.

    Returns:
        The new folder.

    Raises:
        PitpropError: It can't be written.
    """
    target = folder / f"rescued-{spec.address[:8]}"
    if target.exists():
        return target
    start = next(i for i in arm.interventions if isinstance(i, LoadState))
    changes = [i for i in arm.interventions if i is not start]
    record: dict[str, Any] = {
        "collapsed": asdict(origin),
        "started_from": asdict(start),
        "changes": arm.describe(),
        "interventions": [to_dict(i) for i in changes],
        "recipe": spec.recipe,
        "knobs": dict(spec.knobs) | {i.name: i.value for i in changes if isinstance(i, Knob)},
        "seed": spec.seed,
        "steps": spec.horizon,
        "metric": {comparison.metric: to_json_number(metric)},
        "comparison": json_ready(asdict(comparison)),
    }
    try:
        with whole_folder(target) as part:
            for name in (MODEL, OPTIMIZER):
                shutil.copyfile(state / name, part / name)
            record["sha256"] = {name: _sha256(part / name) for name in (MODEL, OPTIMIZER)}
            write_json(part / RECORD, record)
            (part / README).write_text(_readme(record, changes, comparison))
    except OSError as error:
        raise PitpropError(
            f"The rescued checkpoint cannot be written to `{folder}`: {error.strerror or error}.",
            means="Nothing was left there, and no run is lost.",
            do="make room, and give the same command again: it goes on from there.",
        ) from error
    return target


def json_ready(value: Any) -> Any:
    """`value` with NaN and infinities as text and tuples as lists."""
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [json_ready(item) for item in value]
    return to_json_number(value) if isinstance(value, float) else value


def code_note(changes: Sequence[Any]) -> str:
    """What the user's code must do besides loading the files."""
    if not changes:
        return "Nothing in your code has to change."
    told = "; ".join(change.describe() for change in changes)
    return f"Files hold no code: make this change in yours before loading, and keep it: {told}."


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _readme(record: Mapping[str, Any], changes: Sequence[Any], comparison: Comparison) -> str:
    metric, value = next(iter(record["metric"].items()))
    return (
        "A checkpoint rescued by pitprop.\n\n"
        f"Collapsed:  {record['collapsed']['path']} (untouched)\n"
        f"Went on:    {record['changes']}; {record['steps']} steps of {record['recipe']}, seed {record['seed']}\n"
        f"Now:        {metric} = {float(value):.4g}\n"
        f"Against going on as it was: {effect_text(comparison)}, over {len(comparison.seeds)} fresh seeds\n\n"
        f"{code_note(changes)}\n\n"
        f"{LOAD}\n"
        "Several optimizers: the second file then holds a list, one state each.\n"
        f"{RECORD} has all of this as data.\n"
    )
