"""`pitprop case set_diffusion`: the original, averaged gradients and one listed change side by side; with pictures and,
where asked for, every claim.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from pitprop.cases._claims import provenance, store, write_up
from pitprop.cases._result import CaseResult
from pitprop.cases.set_diffusion import arms, experiment, measurements, monitor
from pitprop.cases.set_diffusion.arms import ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.claims import SETS
from pitprop.cases.set_diffusion.data import NOVEL_CLASSES, digits
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import class_distance, evaluation_sets, generator
from pitprop.cases.set_diffusion.options import Options
from pitprop.cases.set_diffusion.pictures import draw
from pitprop.trials.progress import Meter, OnProgress

SEEDS = 2
RESULTS = "results.json"


def run(folder: Path, options: Options, *, claims: bool = False, progress: OnProgress | None = None) -> CaseResult:
    """Runs the experiment into `folder`.

    Args:
        folder: Made where it doesn't exist; files of the same names are replaced.
        options: Size and the change to show; by default 2 seeds, or 8 with `claims`.
        claims: Also train every arm and judge every claim from this run's own numbers (`claims.json`, `claims.md`).
        progress: Told before and after each arm.
    """
    arms.check_steps(steps := options.steps or arms.STEPS)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = options.seeds or (measurements.SEEDS if claims else SEEDS)
    shown = (ORIGINAL, SYNCHRONISED, options.fix)
    meter = Meter(progress, total=len(shown))
    runs: dict[str, Run] = {}
    for name in shown:
        meter.enter(f"training {name}")
        runs[name] = measurements.arm(name, range(seeds), steps, replicas=None)
        meter.tick()
    meter.enter("drawing images")
    drawn = {name: generated(found) for name, found in runs.items()}
    distances = {name: np.mean([distance(images) for images in several]) for name, several in drawn.items()}
    rows = [(name, f"{_line(found)}, distance of new digits {distances[name]:.3g}") for name, found in runs.items()]
    results = {
        "provenance": provenance(("pitprop", "case", "set_diffusion"), seeds=list(range(seeds)), steps=steps),
        "arms": {name: measurements.condensed(found) for name, found in runs.items()},
        "distance_of_new_digits": distances,
    }
    store(results, folder / RESULTS)
    files = [folder / RESULTS, *draw(runs, {name: several[0] for name, several in drawn.items()}, folder)]
    files += [monitor.write(found, 0, folder / "traces" / name, name=name, seed=0) for name, found in runs.items()]
    if claims:
        command = ("pitprop", "case", "set_diffusion", "--claims", "--seeds", str(seeds), "--steps", str(steps))
        judged, written = write_up(
            SETS, measurements.run_claims(command, seeds=seeds, steps=steps, progress=progress), folder
        )
        rows, files = rows + judged, files + written
    return CaseResult(
        title="set_diffusion: is the context used",
        rows=tuple(rows),
        files=tuple(files),
        diagnose=False,  # the trials of the recipe take hours on a laptop; `pitprop diagnose` makes them
    )


def generated(found: Run) -> list[np.ndarray]:
    """New images of the classes that were never trained on, each from six others of a set, by seed."""
    model = experiment.whole(Knobs())
    novel = jnp.asarray(evaluation_sets(model)[1])
    draw_sets = generator(model)
    several = [jax.tree.map(lambda leaf, seed=seed: jnp.asarray(leaf[seed]), found.averages) for seed in _seeds(found)]
    return [np.asarray(draw_sets(params, novel, jax.random.key(0))) for params in several]


def distance(images: np.ndarray) -> float:
    """Mean distance of new images to the real ones of their class, over the classes never trained on."""
    real = digits().novel
    by_class = {k: images[at :: len(NOVEL_CLASSES)] for at, k in enumerate(NOVEL_CLASSES)}
    return float(np.mean([class_distance(own.reshape(-1, *own.shape[2:]), real[k]) for k, own in by_class.items()]))


def _seeds(found: Run) -> range:
    return range(len(found.measured["context_use"]))


def _line(found: Run) -> str:
    def mean(name: str) -> float:
        return float(found.measured[name][:, -1].mean())

    return (
        f"context use {mean('context_use'):.3f} (new classes {mean('novel_context_use'):.3f}), loss "
        f"{mean('eval_loss'):.3f}, replicas apart {found.logged['replica_spread'][:, -1].mean():.3g}"
    )
