"""The new checkpoint that a rescue writes: weights, optimizer state, and what was changed; whole or not at all."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.checkpoint import load_plain, read_checkpoint
from pitprop.trials.conclude import effect_text
from pitprop.trials.execute import write_json
from pitprop.trials.interventions import Knob, Reinitialise, ResetOptimizer, to_dict
from pitprop.trials.interventions.load_state import LoadState
from pitprop.trials.plan import Arm
from pitprop.trials.run import RunSpec, to_json_number
from pitprop.trials.trial_file import json_ready
from pitprop.watch.state import MODEL, OPTIMIZER, TRAINING, whole_folder

ONCE = (Reinitialise, ResetOptimizer)
"""Changes that were made once, to a state that the files hold."""

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
    names = [name for name in (MODEL, OPTIMIZER, TRAINING) if (state / name).exists()]
    others = list(load_plain(state / TRAINING)) if TRAINING in names else []
    known = read_checkpoint(Path(start.path)).others
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
        "in_your_code": code_note(changes),
        "load": load_code(others),
        "others": others,
        "started_anew": [name for name in others if name not in known],
        "comparison": json_ready(asdict(comparison)),
    }
    try:
        with whole_folder(target) as part:
            for name in names:
                shutil.copyfile(state / name, part / name)
            record["sha256"] = {name: _sha256(part / name) for name in names}
            write_json(part / RECORD, record)
            (part / README).write_text(_readme(record, comparison))
    except OSError as error:
        raise PitpropError(
            f"The rescued checkpoint cannot be written to `{folder}`: {error.strerror or error}.",
            means="Nothing was left there, and no run is lost.",
            do="make room, and give the same command again: it goes on from there.",
        ) from error
    return target


def code_note(changes: Sequence[Any]) -> str:
    """What the user's code must do besides loading the files."""
    lasting = [change for change in changes if not isinstance(change, ONCE)]
    if not lasting:
        return "Nothing in your code has to change."
    told = "; ".join(change.describe() for change in lasting)
    return f"Files hold no code: make this change in yours before loading, and keep it: {told}."


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def load_code(others: Sequence[str]) -> str:
    """What the user's code does to load the files."""
    if not others:
        return LOAD
    lines = [f"    {name}.load_state_dict(others[{name!r}])" for name in others]
    return "\n".join([f'{LOAD}    others = torch.load("{TRAINING}", weights_only=True)', *lines, ""])


def _readme(record: Mapping[str, Any], comparison: Comparison) -> str:
    metric, value = next(iter(record["metric"].items()))
    anew = ", ".join(record["started_anew"])
    return (
        "A checkpoint rescued by pitprop.\n\n"
        f"Collapsed:  {record['collapsed']['path']} (untouched)\n"
        f"Went on:    {record['changes']}; {record['steps']} steps of {record['recipe']}, seed {record['seed']}\n"
        f"Now:        {metric} = {float(value):.4g}\n"
        f"Against going on as it was: {effect_text(comparison)}, over {len(comparison.seeds)} fresh seeds\n"
        + (f"Had no state in the checkpoint, so that it started anew: {anew}\n" if anew else "")
        + f"\n{record['in_your_code']}\n\n"
        f"{record['load']}\n"
        "Several optimizers: the second file then holds a list, one state each.\n"
        f"{RECORD} has all of this as data.\n"
    )
