"""`pitprop case set_diffusion`: the original, averaged gradients and one listed change side by side; with pictures and,
where asked for, every claim.
"""

from pathlib import Path

import numpy as np

from pitprop.cases._claims import provenance, store, write_up
from pitprop.cases._result import CaseResult
from pitprop.cases.set_diffusion import arms, measurements, monitor
from pitprop.cases.set_diffusion.arms import ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.claims import SETS
from pitprop.cases.set_diffusion.data import digits
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.generation import ByClass, by_class, generated
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import evaluation_sets
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

    Raises:
        PitpropError: Too few seeds (claims need 2), or steps that are no number of looks.
    """
    seeds = (measurements.SEEDS if claims else SEEDS) if options.seeds is None else options.seeds
    steps = arms.STEPS if options.steps is None else options.steps
    arms.check_sizes(seeds, steps, least=2 if claims else 1)
    folder.mkdir(parents=True, exist_ok=True)
    shown = (ORIGINAL, SYNCHRONISED, options.fix)
    meter = Meter(progress, total=len(shown))
    runs: dict[str, Run] = {}
    for name in shown:
        meter.enter(f"training {name}")
        runs[name] = measurements.arm(name, range(seeds), steps, replicas=None)
        meter.tick()
    meter.enter("drawing images")
    drawn = {name: generated(found, evaluation_sets(Knobs())[1]) for name, found in runs.items()}
    of_new = {name: [by_class(images, digits().novel) for images in several] for name, several in drawn.items()}
    shown_images = {f"{name}, {_share(of_new[name][:1])}": several[0] for name, several in drawn.items()}
    rows = [(name, f"{_line(found)}; {_drawn(of_new[name])}") for name, found in runs.items()]
    results = {
        "provenance": provenance(("pitprop", "case", "set_diffusion"), seeds=list(range(seeds)), steps=steps),
        "arms": {name: measurements.condensed(found) for name, found in runs.items()},
        "new_digits": of_new,
    }
    store(results, folder / RESULTS)
    files = [folder / RESULTS, *draw(runs, shown_images, folder)]
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


def _drawn(by_seed: list[ByClass]) -> str:
    return f"new digits: distance {_mean(by_seed, 'distance'):.3g}, {_share(by_seed)}"


def _share(by_seed: list[ByClass]) -> str:
    return f"{_mean(by_seed, 'recognised'):.0%} recognised"


def _mean(by_seed: list[ByClass], name: str) -> float:
    return float(np.mean([list(own[name].values()) for own in by_seed]))


def _line(found: Run) -> str:
    def mean(name: str) -> float:
        return float(found.measured[name][:, -1].mean())

    return (
        f"context use {mean('context_use'):.3f} (new classes {mean('novel_context_use'):.3f}), loss "
        f"{mean('eval_loss'):.3f}, replicas apart {found.logged['replica_spread'][:, -1].mean():.3g}"
    )
