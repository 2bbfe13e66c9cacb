"""The seed's long run, 1000 images, condensed for the claims.

    pitprop case timestep_attack --mode learnable --images 1000 --seeds 10 --out FOLDER
    python -m pitprop.cases.timestep_attack.long_run FOLDER      # adds it to results/claims.json

It has no modes but `learnable` and `fixed`, and takes an hour of CPU time for ten networks, so `claims --run` keeps the
one that is stored.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pitprop._errors import PitpropError
from pitprop.cases._claims import Results, exit_with, load_results, provenance, store
from pitprop.cases.timestep_attack import data
from pitprop.cases.timestep_attack.claims import ATTACK
from pitprop.cases.timestep_attack.detection import Detection, lead, plain_lead
from pitprop.cases.timestep_attack.experiment import BASELINE, MARGINS
from pitprop.cases.timestep_attack.run import RESULTS
from pitprop.trials.comparison import compare

MARKS = (0, 10, 30, 100, 300, 1000)
"""Images after which weights are written down; the seed has 10 and 1000."""
LATE = 0.5
"""Share of the stream, at its end, on which the collapsed weights are compared with the schedule."""
COMPARED = ("success", "transfer", "l2")


def condense(results: Results) -> dict[str, Any]:
    """What the claims need of `attack_results.json`.

    Returns:
        `provenance`, `test_images` (how many of the stream's are no training images; they come first), `marks` and
        `weights` (`[network, mark, timestep]`), `losses` (means of the fixed schedule), `lead` (alarm against motion
        over the networks), and `late`: each metric of the last half of the images, the networks' mean against the fixed
        schedule, paired by image.
    """
    settings, streams = results["settings"], results["streams"]
    learned = [stream for stream in streams.values() if stream["stream"]["mode"] == "learnable"]
    marks = [mark for mark in MARKS if mark <= settings["images"]]
    right = results["references"]["clean accuracy"]["surrogate"]  # only what it knows is attacked
    command = ("pitprop", "case", "timestep_attack", "--mode", "learnable", "--images", str(settings["images"]))
    return {
        "provenance": provenance((*command, "--seeds", str(settings["seeds"])), **settings),
        "test_images": round(right * len(data.load(settings["source"])[1].labels)),
        "marks": marks,
        "weights": [[stream["weights"][mark] for mark in marks] for stream in learned],
        "losses": streams[BASELINE]["losses"],
        "lead": plain_lead(lead(_detections(learned))),
        "late": [_late(streams[BASELINE], learned, metric) for metric in COMPARED],
    }


def _detections(learned: list[dict[str, Any]]) -> list[Detection]:
    """NaN is null in JSON."""
    numbers = ("alarm", "moved", "vertex_said", "forecast")
    found = []
    for stream in learned:
        fields: dict[str, Any] = stream["detection"]
        undefined: dict[str, Any] = {name: math.nan for name in numbers if fields[name] is None}
        found.append(Detection(**{**fields, **undefined}))
    return found


def _late(base: dict[str, Any], learned: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    before = np.array(base[metric], dtype=float)
    after = np.mean([np.array(stream[metric], dtype=float) for stream in learned], axis=0)
    first = int(len(before) * (1 - LATE))
    both = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
    both = both[both >= first]
    found = compare(
        before[both],
        after[both],
        arm="learnable",
        changes="weights learnable against fixed",
        seeds=both.tolist(),
        metric=metric,
        higher_is_better=metric in ("success", "transfer"),
        margin=MARGINS[metric],
    )
    kept = ("metric", "effect", "low", "high", "margin", "verdict")
    return {key: getattr(found, key) for key in kept} | {"pairs": len(both), "base": float(before[both].mean())}


def main(arguments: list[str]) -> int:
    """Adds a finished long run to the stored claims."""
    folder = Path(arguments[0]) if arguments else Path()
    try:
        results = json.loads((folder / RESULTS).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise PitpropError(
            f"{folder / RESULTS} can't be read: {error}",
            means="the long run isn't finished, or lies elsewhere.",
            do="name the folder that was given as --out",
        ) from error
    store(load_results(ATTACK) | {"long_run": condense(results)}, ATTACK.stored)
    return 0


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))
