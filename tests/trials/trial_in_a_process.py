"""A trial of 16 short runs as a user's script, to be killed: `python trial_in_a_process.py FOLDER local|ray`."""

import sys
from pathlib import Path

from pitprop.trials import Arm, Plan, run_plan
from pitprop.trials.interventions import Knob
from pitprop.trials.run import spec_source

RECIPE = f"{Path(__file__).with_name('recipes_tiny.py')}:guilty"


def plan() -> Plan:
    return Plan(
        recipe=RECIPE,
        source=spec_source(RECIPE),
        knobs={"failing": "slow"},
        arms=(Arm("open", (Knob("pool", "none"),)),),
        seeds=tuple(range(8)),
        metric="spread",
        horizon=100,
    )


if __name__ == "__main__":
    run_plan(plan(), sys.argv[1], on=sys.argv[2], workers=2)
