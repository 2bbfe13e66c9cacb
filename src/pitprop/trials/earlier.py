"""One folder holds one answer: that of another plan is moved to `earlier/`, never overwritten.

The runs stay where they are. Each is addressed by what it is, so plans share those that they have in common.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.execute import read_json
from pitprop.trials.plan import canonical

FOLDER = "earlier"
ANSWERS = ("trial.json", "bisection.json")
TRACE = ("trace.sqlite", "watched.json")


def keep_earlier(folder: Path, plan: Mapping[str, Any], *, copy_trace: bool = False) -> None:
    """Make room in `folder` for the answer to `plan`; the same plan's answer stays, to be written again.

    Args:
        folder: Folder of a trial, a diagnosis, a rescue or a bisection.
        plan: What is known of the new plan, as JSON values; `{}` where there is none.
        copy_trace: Whether the folder's trace is of this plan's control run too.

    Raises:
        PitpropError: The folder can't be written.
    """
    known = read_json(folder / "plan.json") or {}
    # Through JSON, where a tuple is a list.
    if json.loads(canonical({key: known.get(key) for key in plan})) != json.loads(canonical(plan)) or (
        known and not plan
    ):
        set_aside(folder, copy_trace=copy_trace)


def set_aside(folder: Path, *, copy_trace: bool = False) -> None:
    """Move the folder's answer, if it holds one, to `earlier/<its plan>`; a report can be made of it there."""
    answer = next(filter(None, (read_json(folder / name) for name in ANSWERS)), None)
    if answer is None:
        return
    plan = answer.get("plan_hash") or answer.get("plan")
    target = folder / FOLDER / (plan[:8] if plan else "without-a-plan")
    try:
        target.mkdir(parents=True, exist_ok=True)
        # The answer last: after a kill in between, it still says where the rest went.
        for name in (*TRACE, "report.html", "plan.json", *ANSWERS):
            if not (folder / name).exists():
                continue
            if copy_trace and name in TRACE:
                shutil.copyfile(folder / name, target / name)
            else:
                os.replace(folder / name, target / name)
    except OSError as error:
        raise PitpropError(
            f"The answer of another plan in `{folder}` cannot be moved to `{target}`: {error.strerror}.",
            means="It would be overwritten.",
            do="give another folder, or make room there.",
        ) from error
