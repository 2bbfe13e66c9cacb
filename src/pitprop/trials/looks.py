"""How often a trial was looked at: adding seeds until the answer pleases errs far more often than one interval says.

So every answer about the same arms spends a share of the 5 % that a trial may err: the first look four fifths, each
further one four fifths of what the looks before it left (all arms together hold at 96 %, 99.2 %, 99.84 %, ...). The
shares add up to 1, so by the union bound all looks together err at most 5 %, however many there are, with however many
seeds, and whatever made somebody look again. An identical plan is the same look: nothing new is seen.

A diagnosis or a rescue has its first answer at 95 %, for few are asked twice; its further looks spend what those of a
trial do, so that all of them together err at most 6 %.

A look is counted by the answers that the folder holds, in `trial.json` and `earlier/`; a fresh folder knows of none.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pitprop.records import Comparison
from pitprop.trials.comparison import compare
from pitprop.trials.earlier import FOLDER
from pitprop.trials.execute import read_json
from pitprop.trials.plan import Plan, canonical

ALPHA = 0.05
"""What all looks at an arm may err, together with all other arms of the trial."""

KEPT = 0.2
"""Share of the error that a look leaves to those after it."""

SAME = ("recipe", "source", "knobs", "metric", "horizon", "fork_step")
"""Fields of a plan that make an arm's numbers another question when they differ; seeds and margin don't."""


def share(look: int) -> float:
    """Share of the error that look number `look` may spend; all of it for 0, a plan whose looks are not counted."""
    return (1 - KEPT) * KEPT ** (look - 1) if look else 1.0


def numbered(plan: Plan, folder: Path, *, first: int = 1) -> Plan:
    """`plan` with the number of its look: one more than the last one at any of its arms that `folder` has an answer of.

    Looks at an arm thus have numbers of their own, whatever other arms ran beside it. The first one is called `first`:
    0 spends all of the error, and counts as the first one for those after it.
    """
    own = json.loads(canonical(plan.to_dict()))
    last = 0
    for earlier in _answered(folder):
        look = max(1, earlier.pop("look", 0))
        if earlier == own:
            return dataclasses.replace(plan, look=look if look > 1 else first)
        if all(earlier.get(key) == own[key] for key in SAME) and _arms(earlier) & _arms(own):
            last = max(last, look)
    return dataclasses.replace(plan, look=last + 1 if last else first)


def for_the_next(comparison: Comparison, plan: Plan) -> Comparison:
    """`comparison` with the further seeds that may settle it at the level of the next look, which is stricter."""
    c = comparison
    if c.verdict != "inconclusive":
        return c
    again = compare(
        c.control,
        c.treated,
        arm=c.arm,
        seeds=c.seeds,
        metric=c.metric,
        higher_is_better=c.higher_is_better,
        margin=c.margin,
        confidence=1 - (1 - c.confidence) * share(max(1, plan.look) + 1) / share(plan.look),
    )
    return dataclasses.replace(c, further_seeds=again.further_seeds)


def _answered(folder: Path) -> Iterator[dict[str, Any]]:
    """Plans that the folder holds an answer to."""
    for path in (folder / "trial.json", *sorted((folder / FOLDER).glob("*/trial.json"))):
        answer = read_json(path)
        if answer and answer.get("plan"):
            yield answer["plan"]


def _arms(plan: dict[str, Any]) -> set[str]:
    """What the arms of `plan` change; their names say nothing."""
    return {canonical(arm["interventions"]) for arm in plan["arms"]}
