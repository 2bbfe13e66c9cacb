"""Names: those that a loop may give to the numbers it logs, and that of a run without one."""

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import RUN

RESERVED = frozenset(
    {
        "activation_peak",
        "attention_entropy",
        "attention_logit_peak",
        "attention_logit_scale",
        "attention_sink",
        "branch_ratio",
        "certain_share",
        "class_divergence",
        "class_entropy_ratio",
        "class_loss_ratio",
        "code_usage",
        "dead_share",
        "displacement_ratio",
        "effective_rank",
        "embedding_rank",
        "embedding_spread",
        "gradient_norm",
        "gradient_share",
        "head_redundancy",
        "latent_active_share",
        "latent_kl",
        "load_chi_squared",
        "load_entropy",
        "logit_rounding",
        "loss_weight_alignment",
        "loss_weight_concentration",
        "loss_weight_motion",
        "loss_weight_odds",
        "loss_weight_vertex",
        "loss_scale",
        "lost_update_share",
        "momentum_alignment",
        "num_trained",
        "output_spread",
        "output_uniqueness",
        "rotation_ratio",
        "saturated_share",
        "teacher_entropy",
        "teacher_information",
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


def at_sites(given: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Logged values by name and site: `{site: value}` names its sites, anything else belongs to the run."""
    return {
        (name, site): one
        for name, value in given.items()
        for site, one in (value.items() if isinstance(value, Mapping) else ((RUN, value),))
    }


def check_names(names: Iterable[str], sites: Iterable[str] = ()) -> None:
    """Refuse names and sites that a trace can't show, and names that a watch uses itself.

    Raises:
        PitpropError: There is such a name.
    """
    for name in (*names, *sites):
        if name in RESERVED:
            raise PitpropError(
                f"`watch.log({name}=...)` uses a name of pitprop's own",
                means="The watch measures something by this name; the rules would take your number for it.",
                do=f"Choose another name, such as `my_{name}`.",
            )
        if not isinstance(name, str) or not name or not name.isprintable():
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
