"""Names: those that a loop may give to the numbers it logs, and that of a run without one."""

import datetime
from collections.abc import Iterable
from pathlib import Path

from pitprop._errors import PitpropError

RESERVED = frozenset(
    {
        "attention_entropy",
        "attention_logit_scale",
        "branch_ratio",
        "dead_share",
        "displacement_ratio",
        "effective_rank",
        "gradient_norm",
        "gradient_share",
        "loss_scale",
        "lost_update_share",
        "momentum_alignment",
        "num_trained",
        "output_spread",
        "output_uniqueness",
        "rotation_ratio",
        "saturated_share",
        "second_moment_ratio",
        "shrinkage",
        "starved_share",
        "step_scale",
        "stream_growth",
        "stream_norm",
        "token_cosine",
        "update_ratio",
        "weight_rms",
        "whole_gradient_norm",
        "zero_gradient_share",
    }
)
"""What a watch measures itself; a number of the loop's by such a name would be taken for it."""


def check_names(names: Iterable[str]) -> None:
    """Refuse names that a trace can't show, or that a watch uses itself.

    Raises:
        PitpropError: There is such a name.
    """
    for name in names:
        if name in RESERVED:
            raise PitpropError(
                f"`watch.log({name}=...)` uses a name of pitprop's own",
                means="The watch measures something by this name; the rules would take your number for it.",
                do=f"Choose another name, such as `my_{name}`.",
            )
        if not name or not name.isprintable():
            raise PitpropError(
                f"`watch.log` got the name {name!r}",
                means="A name in a trace is a text that can be shown.",
                do="Name it with printable characters.",
            )


def new_folder() -> Path:
    """A folder under `runs` that is not there yet, named by the time."""
    name = Path("runs") / datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    number, folder = 1, name
    while folder.exists():
        number += 1
        folder = name.with_name(f"{name.name}-{number}")
    return folder
