"""`pitprop case timestep_attack`: every weight mode on one stream of images, with its pictures; and, where asked for,
every claim.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pitprop._errors import PitpropError, nearest
from pitprop.cases._claims import store, write_up
from pitprop.cases._result import CaseResult
from pitprop.cases.timestep_attack import data
from pitprop.cases.timestep_attack.claims import ATTACK
from pitprop.cases.timestep_attack.experiment import Plan, loaded, run_experiment
from pitprop.cases.timestep_attack.measurements import SEEDS, condense
from pitprop.cases.timestep_attack.options import Options
from pitprop.cases.timestep_attack.pictures import draw
from pitprop.cases.timestep_attack.weights import MODES
from pitprop.trials.progress import OnProgress

RESULTS = "attack_results.json"


def run(folder: Path, options: Options, *, claims: bool = False, progress: OnProgress | None = None) -> CaseResult:
    """Runs the experiment into `folder`.

    Args:
        folder: Made where it doesn't exist; files of the same names are replaced.
        options: Size, modes and images.
        claims: Also judge every claim from this run's own numbers (`claims.json`, `claims.md`); needs all modes.
        progress: Told after each image.

    Raises:
        PitpropError: A mode or a source that there isn't, no images, claims on one mode alone, a folder that can't be
            made; with the preset `paper` see `paper_run`.
    """
    plan = plan_of(options, claims=claims)
    if options.preset == "paper":
        from pitprop.cases.timestep_attack import paper_run  # diffusers takes seconds to import

        asked = paper_run.from_options(options, plan, claims=claims)
        return paper_run.run_paper(_made(folder), asked, progress)
    _made(folder)
    results, ran = run_experiment(plan, progress)
    store(results, folder / RESULTS)
    files = [folder / RESULTS, *draw(results, ran, loaded(plan)[2], folder)]
    rows = [(name, _line(stream)) for name, stream in results["streams"].items()]
    rows += [("vertex predicted beforehand", _prediction(results["predicted"]))]
    if claims:
        size = ("--images", str(plan.images), "--seeds", str(plan.seeds), "--source", plan.source)
        command = ("pitprop", "case", "timestep_attack", "--claims", *size)
        judged, written = write_up(ATTACK, condense(plan, results, ran, command), folder)
        rows, files = rows + judged, files + written
    return CaseResult(title="timestep_attack: where the timestep weights go", rows=tuple(rows), files=tuple(files))


def plan_of(options: Options, *, claims: bool = False) -> Plan:
    """The size of the experiment; raises `PitpropError` where there is no such one."""
    mode = None if options.mode is None else _known(options.mode, MODES, "mode")
    source: data.Source = _known(options.source, get_args(data.Source), "source")
    if (options.images is not None and options.images < 1) or (options.seeds is not None and options.seeds < 1):
        raise PitpropError("The attack needs at least one image and one seed.")
    if claims and options.mode is not None:
        raise PitpropError(
            f"The claims can't be judged on the mode `{options.mode}` alone.",
            means="most of them compare one mode with another.",
            do="leave out --mode, or --claims.",
        )
    seeds = options.seeds or (SEEDS if claims else 1)
    return Plan(
        images=options.images or Plan.images, seeds=seeds, modes=MODES if mode is None else (mode,), source=source
    )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PitpropError(f"{folder} can't be made: {error}", do="name another folder with --out.") from error
    return folder


def _known(name: str, known: Sequence[Any], what: str) -> Any:
    if name not in known:
        raise PitpropError(f"There is no {what} `{name}`: {nearest(name, known)}")
    return name


def _line(stream) -> str:
    weights = " ".join(f"{weight:.3f}" for weight in stream["weights"][-1])
    said = stream["detection"]["severity"]
    alarm = "" if said is None else f", {said} at iteration {stream['detection']['alarm']:.0f}"
    values = {name: np.nanmean(stream[name]) for name in ("success", "transfer", "l2")}
    return (
        f"[{weights}], success {values['success']:.2f}, transfer {values['transfer']:.2f}, L2 {values['l2']:.2f}{alarm}"
    )


def _prediction(predicted) -> str:
    other = "" if predicted["index"] == predicted["smallest"] else f" (smallest mean loss: {predicted['smallest']})"
    return f"timestep {predicted['index']}{other}, half of the weight moved at iteration {predicted['collapse']:.0f}"
