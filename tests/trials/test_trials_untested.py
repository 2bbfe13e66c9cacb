"""Arms that nothing is learnt from, since they never acted, and the recipe's own guards: through `trial`, end to end."""

import json

import pytest

from pitprop.trials import trial
from pitprop.trials.interventions import Ablate, ClipGradient, Freeze, Knob

FEW = {"seeds": 3, "horizon": 40}


def test_a_guard_of_the_recipe_may_say_which_direction_is_good(pool, reference, tmp_path):
    found = trial(reference("recipes_tiny", "directed"), [Knob("pool", "none")], folder=tmp_path, executor=pool, **FEW)
    (guarded,) = found.guards
    assert not found.failed and guarded.metric == "loss" and guarded.verdict in ("better", "inconclusive")
