"""The command line that makes a diagnosis or a rescue again: whatever the functions take, it can say."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pitprop.trials.interventions import Intervention, to_dict


def command(
    verb: str,
    *named: object,
    knobs: Mapping[str, Any] | None,
    suspects: Sequence[Intervention],
    options: Mapping[str, object],
) -> list[str]:
    """Arguments of a shell command.

    Args:
        verb: Of the command line.
        named: What it is given without an option.
        knobs: Knobs of the control.
        suspects: Changes to try beside the derived ones; as JSON, for not every field has an option of its own.
        options: Further options; one that is None is left out.
    """
    parts = ["pitprop", verb, *map(str, named)]
    for name, value in (knobs or {}).items():
        parts += ["--knob", f"{name}={json.dumps(value) if isinstance(value, (list, tuple)) else value}"]
    for suspect in suspects:  # made again, it runs a factory as it is then: no digest of what it is now
        parts += ["--change", json.dumps({k: v for k, v in to_dict(suspect).items() if k != "source"})]
    return parts + [part for name, value in options.items() if value is not None for part in (name, str(value))]
