"""Trials: change one thing, run both sides on the same batches and the same random numbers, compare pair by pair.

The names here load when first used, so that a recipe can import `Recipe` without torch. No module is named like a
function that it holds: importing the module would hide the function.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pitprop.trials.bisection.answer import Bisection
    from pitprop.trials.bisection.drive import bisect
    from pitprop.trials.comparison import compare
    from pitprop.trials.diagnosis import Diagnosis, diagnose
    from pitprop.trials.execute import run_plan
    from pitprop.trials.experiment import trial
    from pitprop.trials.gradient_record import GradientShare
    from pitprop.trials.interventions import INTERVENTIONS, Intervention
    from pitprop.trials.load import load_recipe
    from pitprop.trials.paired_gradients import gradient_share
    from pitprop.trials.plan import Arm, Plan
    from pitprop.trials.proof import ForkProof, prove_exact
    from pitprop.trials.recipe import Recipe, Training
    from pitprop.trials.recovery import Rescue, rescue
    from pitprop.trials.result import Trial

_WHERE = {
    "Arm": "plan",
    "Bisection": "bisection.answer",
    "Diagnosis": "diagnosis",
    "ForkProof": "proof",
    "GradientShare": "gradient_record",
    "INTERVENTIONS": "interventions",
    "Intervention": "interventions",
    "Plan": "plan",
    "Recipe": "recipe",
    "Rescue": "recovery",
    "Training": "recipe",
    "bisect": "bisection.drive",
    "Trial": "result",
    "compare": "comparison",
    "diagnose": "diagnosis",
    "gradient_share": "paired_gradients",
    "load_recipe": "load",
    "prove_exact": "proof",
    "rescue": "recovery",
    "run_plan": "execute",
    "trial": "experiment",
}

__all__ = [
    "INTERVENTIONS",
    "Arm",
    "Bisection",
    "Diagnosis",
    "ForkProof",
    "GradientShare",
    "Intervention",
    "Plan",
    "Recipe",
    "Rescue",
    "Training",
    "Trial",
    "bisect",
    "compare",
    "diagnose",
    "gradient_share",
    "load_recipe",
    "prove_exact",
    "rescue",
    "run_plan",
    "trial",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"pitprop.trials.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
