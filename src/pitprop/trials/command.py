"""The command that makes a diagnosis again: the command line where it can say everything, python where it can't."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pitprop.trials.interventions import Intervention


def command(
    reference: str,
    knobs: Mapping[str, Any],
    seeds: int,
    screen_seeds: int,
    suspects: Sequence[Intervention],
    folder: Path,
    *,
    usual_screen_seeds: int,
) -> list[str]:
    """Arguments of a shell command; the command line has no option for suspects and screening seeds."""
    as_text = all(isinstance(value, (str, int, float)) for value in knobs.values())
    if as_text and not suspects and screen_seeds == usual_screen_seeds:
        overrides = [part for name, value in knobs.items() for part in ("--knob", f"{name}={value}")]
        return ["pitprop", "diagnose", reference, *overrides, "--seeds", str(seeds), "--out", str(folder)]
    call = (
        f"diagnose({reference!r}, knobs={dict(knobs)!r}, seeds={seeds}, screen_seeds={screen_seeds}, "
        f"suspects={list(suspects)!r}, folder={str(folder)!r})"
    )
    return ["python", "-c", f"from pitprop.trials import diagnose; from pitprop.trials.interventions import *; {call}"]
