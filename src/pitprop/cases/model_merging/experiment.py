"""The seed's experiment whole: collapse a baseline, save the checkpoint, try to recover it, and measure robustly.

It writes the files that the seed names: `robustness_evaluation_results.json` and four pictures, with seeds and
intervals.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from pitprop.cases._claims import plain
from pitprop.cases.model_merging.arms import CONTROL_ARMS, RECOVERIES, SEED_ARMS, State
from pitprop.cases.model_merging.evaluation import references
from pitprop.cases.model_merging.monitor import AttentionEntropyMonitor
from pitprop.cases.model_merging.pictures import draw
from pitprop.cases.model_merging.recipe import Knobs, Merging, recipe
from pitprop.trials.comparison import compare
from pitprop.trials.progress import Meter, OnProgress

BASELINE = "ungated"
RESULTS = "robustness_evaluation_results.json"
MOSTLY = 0.5
"""Share of distinct outputs over which a state still tells its inputs apart. A convention."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Size of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = recipe.steps
    """Steps of a training from scratch."""
    recovery_steps: int = recipe.steps
    """Further steps of each recovery."""
    every: int = 20
    """Steps between two evaluations; the baseline is evaluated at every step, to find its last good state."""
    controls: bool = False
    """Also run the arms that the seed doesn't have and the claims need."""
    knobs: Knobs = field(default_factory=Knobs)
    """What every arm starts from before its own changes."""


def gradient_norm(module: nn.Module) -> float:
    """Global norm of the gradients as the step left them (after clipping, where there is any)."""
    return float(nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))


def train(
    training: Merging, *, cursor: int, steps: int, every: int, last_good: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Trains for `steps` batches from `cursor` on and measures.

    Args:
        training: Changed in place.
        cursor: Number of the first batch.
        steps: Optimizer steps.
        every: Steps between evaluations; the first is before the first step, the last after the last.
        last_good: Where given, its `state` becomes the last evaluated state whose outputs were mostly distinct (the
            state at the start where none was), and its `step` that state's step.

    Returns:
        `history` (one dictionary per evaluation), `gradient_norm` and `encoder_gradient_norm` (one number per step).
    """
    history, norms, encoder_norms = [], [], []
    monitor = AttentionEntropyMonitor()
    batches = training.batches(cursor)
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            measured = dict(training.evaluate())
            reading = monitor.update(step, measured["attention_entropy"])
            history.append(
                {"step": cursor + step, **measured, "seed_reading": reading.seed, "correct_reading": reading.correct}
            )
            if last_good is not None and (measured["output_uniqueness"] > MOSTLY or "state" not in last_good):
                last_good.update(step=cursor + step, state=_copy(training.model))
        if step < steps:
            training.step(next(batches))
            norms.append(gradient_norm(training.model))
            encoder_norms.append(gradient_norm(training.model.get_submodule("encoder")))
    return {"history": history, "gradient_norm": norms, "encoder_gradient_norm": encoder_norms}


def run_experiment(folder: Path, settings: Settings = Settings(), progress: OnProgress | None = None) -> dict[str, Any]:
    """Runs every arm on every seed and writes results, pictures and the collapsed checkpoints to `folder`.

    Returns:
        What `robustness_evaluation_results.json` holds: `settings`, `references`, `arms` (name -> seed -> `train`'s
        result) and `comparisons` (each arm's final metrics against the arm that it is paired with).
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = {**SEED_ARMS, **(CONTROL_ARMS if settings.controls else {})}
    arms: dict[str, dict[str, Any]] = {name: {} for name in (*starts, *RECOVERIES)}
    meter = Meter(progress, len(settings.seeds) * len(arms))
    for seed in settings.seeds:
        last_good: dict[str, Any] = {}
        checkpoint = folder / f"collapsed_seed{seed}.safetensors"
        for name, start in starts.items():
            meter.enter(f"{name}, seed {seed}")
            training = start(seed, settings.knobs)
            if name == BASELINE:
                result = train(training, cursor=0, steps=settings.steps, every=1, last_good=last_good)
                result["last_good_step"] = last_good["step"]
                save_file(_copy(training.model), checkpoint)
            else:
                result = train(training, cursor=0, steps=settings.steps, every=settings.every)
            arms[name][str(seed)] = result
            meter.tick()
        for name, recover in RECOVERIES.items():
            meter.enter(f"{name}, seed {seed}")
            training = recover(seed, settings.knobs, load_file(checkpoint), last_good["state"])
            arms[name][str(seed)] = train(
                training, cursor=settings.steps, steps=settings.recovery_steps, every=settings.every
            )
            meter.tick()
    results = {
        "settings": asdict(settings),
        "references": references(),
        "arms": arms,
        "comparisons": comparisons(arms, settings),
    }
    (folder / RESULTS).write_text(json.dumps(plain(results), indent=1, allow_nan=False) + "\n")
    draw(results, folder)
    return results


def comparisons(arms: dict[str, dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """Final output spread of each arm against the ungated one: from scratch, or recovered without a gate."""
    found = []
    for name in arms:
        recovery = name in RECOVERIES
        control = "recover: ungated" if recovery else BASELINE
        if name == control:
            continue
        comparison = compare(
            final(arms[control], recipe.metric),
            final(arms[name], recipe.metric),
            arm=name,
            changes=f"{name} against {control}",
            seeds=settings.seeds,
            metric=recipe.metric,
            margin=recipe.margin,
            horizon=settings.recovery_steps if recovery else settings.steps,
        )
        found.append(asdict(comparison))
    return found


def final(by_seed: dict[str, Any], metric: str) -> list[float]:
    """Last value of a metric, one per seed."""
    return [result["history"][-1][metric] for result in by_seed.values()]


def _copy(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
