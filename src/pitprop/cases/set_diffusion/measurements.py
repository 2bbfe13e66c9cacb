"""What the claims are judged on. What `run_claims` returns is committed as `results/claims.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pitprop.cases._cache import cached
from pitprop.cases._claims import plain, provenance
from pitprop.cases.set_diffusion import (
    arms,
    data,
    dit,
    encoder,
    experiment,
    generation,
    metrics,
    schedule,
    statics,
    training,
)
from pitprop.cases.set_diffusion.arms import ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.recipe import recipe
from pitprop.trials.comparison import compare, each_of
from pitprop.trials.progress import Meter, OnProgress
from pitprop.watch._pytree import named_leaves

CODE = (data, dit, encoder, experiment, metrics, schedule, training)
"""What a trained arm depends on."""
SEEDS = 8
MARKS = (0, 1, 2, 3, 5, 10, 20, 49)
"""Steps at which the encoder's gradient is written down."""
SPREAD_STEPS = 200
"""Steps of the one run of the original whose replicas are all trained."""
CLIP = 1.0
HEALTHY = 0.1
"""The seed's threshold for the encoder's gradient norm."""
COMPARED = ("context_use", "novel_context_use", "eval_loss")


def run_claims(
    command: Sequence[str], *, seeds: int = SEEDS, steps: int = arms.STEPS, progress: OnProgress | None = None
) -> dict[str, Any]:
    """All arms on all seeds, their comparisons, and what needs no training of its own.

    Args:
        command: Written into the results.
        seeds: Number of seeds, from 0 on.
        steps: Of each training, a multiple of `arms.EVERY`.
        progress: Told after each arm.

    Raises:
        PitpropError: Fewer than two seeds, or steps that are no number of looks.
    """
    arms.check_sizes(seeds, steps, least=2)
    meter = Meter(progress, total=len(arms.ALL))
    runs = {}
    for name in arms.ALL:
        meter.enter(f"training {name}")
        runs[name] = arm(name, range(seeds), steps)
        meter.tick()
    meter.enter("judging")
    spread = arm(ORIGINAL, range(seeds), min(steps, SPREAD_STEPS), replicas=None).logged["replica_spread"]
    # Compared as they are stored, so that stored arms can be compared with those of another sitting.
    stored = plain({name: condensed(found) for name, found in runs.items()})
    return {
        "provenance": provenance(command, seeds=list(range(seeds)), steps=steps, every=arms.EVERY),
        "arms": stored,
        "comparisons": compared(stored, range(seeds), steps),
        "replica_spread": {
            "steps": spread.shape[1],
            ORIGINAL: spread[:, -1],
            SYNCHRONISED: runs[SYNCHRONISED].logged["replica_spread"][:, -1],
        },
        "generated": generation.measured({name: runs[name] for name in (ORIGINAL, SYNCHRONISED)}),
        "null_is_idle": alike(runs[ORIGINAL], runs["learnable null context"]),
        "statics": statics.statics(runs, range(seeds)),
    }


def arm(name: str, seeds: Sequence[int], steps: int, *, replicas: int | None = 1) -> Run:
    """A trained arm; of those whose replicas don't hear of each other only `replicas` are trained."""
    settings = arms.ALL[name]
    if settings.synchronised:
        replicas = None
    if name == arms.LONG:
        steps *= settings.replicas
    steps = min(steps, arms.EVERY) if name in arms.DESCENT else steps
    model = experiment.model_of(settings)
    return trained(name, settings, model, seeds, steps=steps, every=arms.EVERY, replicas=replicas)


def trained(
    name: str, arm: Knobs, model: Knobs, seeds: Sequence[int], *, steps: int, every: int, replicas: int | None = None
) -> Run:
    """`experiment.run`, kept between runs."""
    own, whole = ({k: v for k, v in vars(knobs).items() if k != "data"} for knobs in (arm, model))  # always the digits
    sizes = dict(arm=own, seeds=list(seeds), steps=steps, every=every, replicas=replicas, model=whole)

    def make() -> dict[str, torch.Tensor]:
        found = experiment.run(arm, model, seeds, steps=steps, every=every, replicas=replicas)
        flat = {
            f"{part}/{key}": value for part in ("logged", "measured") for key, value in getattr(found, part).items()
        }
        flat |= {f"averages/{path}": value for path, value in named_leaves(found.averages)}
        return {key: torch.from_numpy(np.array(value)) for key, value in flat.items()}

    kept = cached("set-diffusion-" + name.replace(" ", "-").replace(",", ""), sizes, CODE, make)
    parts: dict[str, dict] = {"logged": {}, "measured": {}, "averages": {}}
    for key, value in kept.items():
        part, _, path = key.partition("/")
        at = parts[part]
        *folders, last = path.split(".") if part == "averages" else [path]
        for folder in folders:
            at = at.setdefault(folder, {})
        at[last] = value.numpy()
    return Run(**parts)


def condensed(run: Run) -> dict[str, Any]:
    """Of an arm, by seed where nothing else is said."""
    encoder_norm, whole = run.logged["encoder_gradient_norm"], whole_norm(run)
    return {
        **{f"{name}_last": values[:, -1] for name, values in run.measured.items()},
        "eval_loss_first": run.measured["eval_loss"][:, 0],
        "context_use_curve": run.measured["context_use"].mean(0),
        "steps_until_used": [steps_until_used(curve) for curve in run.measured["context_use"]],
        "encoder_gradient": {"step": MARKS, "median": np.median(encoder_norm[:, MARKS], 0)},
        "encoder_gradient_first": encoder_norm[:, :4],
        "encoder_gradient_median": np.median(encoder_norm, 1),
        "share_over_healthy": (encoder_norm > HEALTHY).mean(1),
        "share_clipped": (whole > CLIP).mean(1),
        "largest_norm": whole.max(1),
        "context_first": run.logged["context"][:, 0],
        "context_last": ended(run, "context"),
        "context_norm_kept": ended(run, "context_norm") / run.logged["context_norm"][:, 0],
        "context_std_kept": ended(run, "context_std") / run.logged["context_std"][:, 0],
        "between_set_share_first": run.logged["between_set_std"][:, 0] / run.logged["context_std"][:, 0],
        "between_set_share": ended(run, "between_set_std") / ended(run, "context_std"),
    }


def ended(run: Run, name: str) -> Float[ndarray, " seed"]:
    """Mean of what was logged in the last 50 steps."""
    return run.logged[name][:, -50:].mean(1)


def whole_norm(run: Run) -> Float[ndarray, "seed step"]:
    """Norm of all gradients."""
    return np.hypot(run.logged["encoder_gradient_norm"], run.logged["dit_gradient_norm"])


def steps_until_used(curve: Float[ndarray, " look"], every: int = arms.EVERY) -> int | None:
    """First look from which on the context's use stays over the margin; None where it doesn't."""
    under = np.flatnonzero(curve <= recipe.margin)
    first = int(under[-1]) + 1 if len(under) else 0
    return first * every if first < len(curve) else None


def compared(stored: Mapping[str, Any], seeds: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """Each condensed arm against its control, seed by seed; the intervals of one control's arms hold together."""
    found = []
    for control, several in arms.PAIRS.items():
        for name in several:
            for metric in COMPARED:
                record = compare(
                    stored[control][f"{metric}_last"],
                    stored[name][f"{metric}_last"],
                    arm=name,
                    seeds=tuple(seeds),
                    metric=metric,
                    higher_is_better=metric != "eval_loss",
                    margin=recipe.margin,
                    horizon=steps,
                    confidence=each_of(len(several)),
                )
                row = asdict(record)
                kept = ("arm", "metric", "effect", "low", "high", "confidence", "verdict", "margin")
                found.append({"control": control, **{key: row[key] for key in kept}})
    return found


def alike(one: Run, other: Run) -> bool:
    """Whether everything that was logged is the same, bit for bit."""
    return all(np.array_equal(one.logged[name], other.logged[name]) for name in one.logged)
