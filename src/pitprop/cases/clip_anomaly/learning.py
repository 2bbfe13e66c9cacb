"""Whether stage 2 learns, is slow or stalls: trials from a base that still has something to learn.

The finished base gains nothing in stage 2: frozen adapters pass for it, so "no difference" from it says nothing of
learning. Here the base's own stage 2 is broken off early, and each arm is held against two: the control, which trains
the adapters without cross-attention, and `adapters frozen`, in which nothing moves.

python -m pitprop.cases.clip_anomaly.learning [learning|longer]   measures one part, into results/claims.json
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from pitprop.cases._claims import Results, exit_with, load_results, provenance, store
from pitprop.cases.clip_anomaly.arms import BASE, FROZEN, at, learning_arms
from pitprop.cases.clip_anomaly.experiment import Settings, one_loop, run_arms
from pitprop.cases.clip_anomaly.recipe import evaluate, known, recipe
from pitprop.cases.clip_anomaly.stages import BASE as FINISHED
from pitprop.cases.clip_anomaly.stages import Data, base, blank, hand_over, images
from pitprop.trials.comparison import verdict
from pitprop.trials.interval import Effect, interval
from pitprop.trials.progress import OnProgress

EARLY = Data(base=replace(FINISHED, image_steps=60))
"""The base, broken off after 60 of its 1500 steps. Chosen with `TIMES` on the seeds 100 to 102 by the control alone, so
that it improves by several margins: bases of 60, 120 and 200 steps gain .077, .065 and .053 pixel AUROC in 240 steps.
"""
TIMES = 4
"""Steps of stage 2, over those of the other arms."""
Part = Literal["learning", "longer"]
"""learning: all arms from the early base. longer: the control, A and C from the finished one."""
Pace = Literal["learns", "slow", "stalls", "falls below", "open"]


def run_part(
    part: Part, settings: Settings, norm: float, command: tuple[str, ...], progress: OnProgress | None = None
) -> dict[str, Any]:
    """The arms at this context norm, with the seeds of `settings` and `TIMES` its steps, see `Part`."""
    settings = replace(settings, schedule=one_loop(TIMES * settings.schedule.image_steps))
    arms = learning_arms(norm)
    if part == "learning":
        settings = replace(settings, data=EARLY)
    else:
        arms = {name: arms[name] for name in (BASE, at("A", norm), at("C", norm))}
    return {
        **run_arms(arms, settings, progress),
        "references": {**known(settings.data), "untrained base": untrained(settings.data)},
        "base": digest(settings.data),
        "provenance": provenance(command, **asdict(settings)),
    }


def untrained(data: Data) -> dict[str, float]:
    """The base before its training, on the held-out images."""
    torch.manual_seed(data.pretraining.seed)
    start = blank(data)
    pool, held_out = images(data)
    hand_over(start, pool)
    return evaluate(start, held_out)


def digest(data: Data) -> str:
    """Which base it was: bases trained anew differ, see the README."""
    found = hashlib.sha256()
    for _, value in sorted(base(data).items()):
        found.update(value.numpy().tobytes())
    return found.hexdigest()[:16]


def against(results: Mapping[str, Any], arm: str, other: str) -> Effect:
    """Paired difference of two arms at the end, over the seeds."""
    after, before = (np.array(results["arms"][name]["last"][recipe.metric], float) for name in (arm, other))
    return interval(after - before)


def pace(results: Mapping[str, Any], arm: str) -> Pace:
    """What an arm does beside frozen adapters and beside the control.

    Returns:
        `learns`: better than frozen, not worse than the control. `slow`: better than frozen, worse than the control.
        `stalls`: no difference from frozen. `falls below`: worse than frozen. `open`: an interval too wide to say, or
        a control that isn't better than frozen by more than the margin, beside which nothing could be seen.
    """

    def said(other: str) -> str:
        return verdict(against(results, arm, other), margin=recipe.margin, higher_is_better=recipe.higher_is_better)

    if not can_learn(results):
        return "open"
    match said(FROZEN), said(BASE):
        case "worse", _:
            return "falls below"
        case "no difference within margin", _:
            return "stalls"
        case "better", "worse":
            return "slow"
        case "better", "better" | "no difference within margin":
            return "learns"
    return "open"


def can_learn(results: Mapping[str, Any]) -> bool:
    """Whether the control gains more than the margin over frozen adapters."""
    return against(results, BASE, FROZEN).low > recipe.margin


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures in this process, with one thread, and stores the numbers beside the others."""
    from pitprop.cases.clip_anomaly.claims import CLIP
    from pitprop.cases.clip_anomaly.measurements import CONTEXT, SEEDS, STEPS

    parser = argparse.ArgumentParser(prog="python -m pitprop.cases.clip_anomaly.learning", description=__doc__)
    parser.add_argument("part", nargs="?", choices=get_args(Part), default="learning")
    part = parser.parse_args(arguments).part
    torch.set_num_threads(1)
    settings = Settings(seeds=tuple(range(SEEDS)), schedule=one_loop(STEPS), workers=1)
    command = ("python", "-m", "pitprop.cases.clip_anomaly.learning", part)
    made = run_part(part, settings, CONTEXT, command, lambda now: print(f"{now.done}/{now.total}"))
    results: Results = load_results(CLIP)
    store({**results, part: made}, CLIP.stored)
    return 0


if __name__ == "__main__":
    exit_with(main)
