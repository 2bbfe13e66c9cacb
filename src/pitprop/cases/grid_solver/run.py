"""`pitprop case grid_solver`: the seed's configurations side by side, with pictures, and every claim if asked for."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pitprop._errors import PitpropError
from pitprop.cases._claims import store, write_up
from pitprop.cases._result import CaseResult
from pitprop.cases.grid_solver import paper
from pitprop.cases.grid_solver.arms import configuration
from pitprop.cases.grid_solver.claims import GRID
from pitprop.cases.grid_solver.evaluation import pass_at
from pitprop.cases.grid_solver.measurements import BISECTION, COLLECTIONS, run_claims
from pitprop.cases.grid_solver.options import Options
from pitprop.cases.grid_solver.pictures import draw, draw_bisection
from pitprop.cases.grid_solver.recipe import MAX_PAIRS, Knobs, Solving, held_out, prior, recipe, tasks
from pitprop.trials.progress import Meter, OnProgress

RESULTS, PAPER, LOOKS, NUM_SHOWN = "configurations.json", "paper.json", 8, 4
CLAIM_SEEDS = 5
NUM_VOTES = 8
CONFIGS = ("old", "new", "option_a")


def run(folder: Path, options: Options, *, claims: bool = False, progress: OnProgress | None = None) -> CaseResult:
    """Trains each configuration into `folder`.

    Args:
        folder: Made where it doesn't exist; files of the same names are replaced.
        options: See there.
        claims: Also run all arms and judge every claim from these numbers (`claims.json`, `claims.md`).
        progress: Told before and after each training.

    Raises:
        PitpropError: The options don't fit together, or `data` has no tasks that fit; nothing is written then.
    """
    _check(options, claims)
    data = _tasks_folder(options.data or os.environ.get("PITPROP_DATA"))
    if options.preset == "paper":
        return full_size(folder, options, data, progress)
    size = Knobs.size if options.size is None else options.size
    trained, asked = map(len, tasks(data, size))
    steps = recipe.steps if options.steps is None else options.steps
    folder.mkdir(parents=True, exist_ok=True)
    configs = CONFIGS if options.config is None else (options.config,)
    meter = Meter(progress, options.seeds * len(configs))
    results: dict[str, Any] = {name: {} for name in configs}
    for name in configs:
        for seed in range(options.seeds):
            meter.enter(f"{name}, seed {seed}")
            knobs = replace(Knobs(**configuration(name)), data=data, size=size)
            results[name][str(seed)] = train(seed, knobs, steps)
            meter.tick()
    told = f"{data or 'generated'}: {trained} tasks to train on and {asked} held out"
    told += f", canvas {size} x {size}, {steps} steps"
    store({"tasks": told, **results}, folder / RESULTS)
    pictures = draw(results, prior(data, size).tolist(), held_out(data, size), folder)
    pictures.append(draw_bisection(json.loads(BISECTION.read_text()), folder / "bisection.png"))
    rows = [("tasks", told)]
    rows += [(f"{name}, seed {seed}", _line(one)) for name, found in results.items() for seed, one in found.items()]
    files = [folder / RESULTS, *pictures]
    if claims:
        judged, written = write_up(GRID, run_claims(CLAIM_SEEDS, progress=progress), folder)
        rows, files = rows + judged, files + written
    # The recipe's defaults are OLD, which doesn't collapse.
    return CaseResult(
        title="grid_solver: what the solver answers", rows=tuple(rows), files=tuple(files), diagnose=False
    )


def _check(options: Options, claims: bool) -> None:
    for name in ("steps", "seeds"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise PitpropError(f"`--{name}` is {value}", do="choose 1 or more.")
    paper_size = paper.FULL["size"]
    if options.preset == "paper" and options.size not in (None, paper_size):
        raise PitpropError(f"The preset paper has a canvas of {paper_size} x {paper_size}", do="leave out --size.")
    if options.preset == "paper" and (claims or options.seeds != 1):
        raise PitpropError("The preset paper trains one configuration once", do="leave out --claims and --seeds.")
    if claims and (options.data is not None or options.size is not None):
        raise PitpropError(
            "The claims are judged on generated tasks of one size",
            do="leave out --data and --size, or measure on real tasks: "
            "python -m pitprop.cases.grid_solver.claims --run --data DIR",
        )


def _tasks_folder(named: Path | str | None) -> str:
    """The folder of tasks: as named, or ARC-AGI-1's training tasks where a folder of collections is."""
    if not named:
        return ""
    folder = Path(named).expanduser().absolute()
    collection = folder / COLLECTIONS["ARC-AGI-1"][0]
    return str(collection if collection.is_dir() else folder)


def full_size(folder: Path, options: Options, data: str, progress: OnProgress | None) -> CaseResult:
    """One epoch, or `options.steps`, of one configuration at the original's size."""
    if not data:
        raise PitpropError(
            "The preset paper needs ARC's tasks",
            do="--data DIR: a folder of ARC tasks, for example ARC-AGI/data/training",
        )
    config = options.config or "new"
    steps = paper.steps_per_epoch(config) if options.steps is None else options.steps
    tasks(data, paper.FULL["size"])  # before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    found = paper.train(paper.full_size(config, data), steps, progress=progress)
    store({"config": config, "steps": steps, **found}, folder / PAPER)
    rows = [
        (
            when,
            f"foreground {found[when]['fg_accuracy']:.3f}, background {found[when]['bg_accuracy']:.3f}, exact "
            f"{found[when]['exact']:.3f}, loss {found[when]['held_out_loss']:.3f}",
        )
        for when in ("before", "after")
    ]
    rows += [("tasks per second", f"{found['tasks_per_s']:.1f}"), ("peak memory, GiB", f"{found['peak_gib']:.1f}")]
    return CaseResult(
        title=f"grid_solver at full size: {config}, {steps} steps",
        rows=tuple(rows),
        files=(folder / PAPER,),
        diagnose=False,
    )


def train(seed: int, knobs: Knobs, steps: int) -> dict[str, Any]:
    """One training: evaluations on the way, the colours it says for a few held-out tasks, and voting at the end."""
    training = Solving(seed, knobs)
    every, history, said = max(1, steps // LOOKS), [], []
    batches = training.batches(0)
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            logits = _logits(training)
            history.append({"step": step, **training.evaluate(), "marginal": _marginal(training, logits)})
            said.append(logits[:NUM_SHOWN].argmax(1).tolist())
        if step < steps:
            training.step(next(batches))
    model = (training.model if training.ema is None else training.ema.module).eval()
    with torch.no_grad():
        voted = pass_at(
            lambda batch: model(batch).logits,
            tasks(knobs.data, knobs.size)[1],
            size=knobs.size,
            max_pairs=MAX_PAIRS,
            num_changes=NUM_VOTES,
        )
    return {"history": history, "said": said, "votes": dict(voted)}


@torch.no_grad()
def _logits(training: Solving) -> torch.Tensor:
    model = training.model if training.ema is None else training.ema.module
    was, _ = model.training, model.eval()
    logits = model(held_out(training.knobs.data, training.knobs.size)).logits
    model.train(was)
    return logits


def _marginal(training: Solving, logits: torch.Tensor) -> list[float]:
    """Share of each colour among the answers."""
    targets = held_out(training.knobs.data, training.knobs.size).targets
    counts = torch.bincount(logits.argmax(1)[targets >= 0], minlength=logits.shape[1])
    return (counts / counts.sum()).tolist()


def _line(result: Mapping[str, Any]) -> str:
    last, votes = result["history"][-1], result["votes"]
    return (
        f"foreground {last['fg_accuracy']:.3f}, background {last['bg_accuracy']:.3f}, excess {last['bg_excess']:+.3f}, "
        f"exact {last['exact']:.3f}, " + ", ".join(f"{name} {value:.3f}" for name, value in votes.items())
    )
