"""`pitprop case clip_anomaly`: the base, the ladder of variants, its pictures, and, where asked for, every claim."""

from pathlib import Path

import numpy as np

from pitprop.cases._claims import provenance, store, write_up
from pitprop.cases._result import CaseResult
from pitprop.cases.clip_anomaly import measurements
from pitprop.cases.clip_anomaly.arms import story
from pitprop.cases.clip_anomaly.claims import CLIP
from pitprop.cases.clip_anomaly.experiment import Settings, gradient_ladder, one_loop, run_arms
from pitprop.cases.clip_anomaly.options import Options
from pitprop.cases.clip_anomaly.paper_run import from_options, run_paper
from pitprop.cases.clip_anomaly.pictures import draw
from pitprop.cases.clip_anomaly.recipe import known
from pitprop.trials.progress import OnProgress

SEEDS, STEPS = 2, 60
RESULTS = "results.json"


def run(folder: Path, options: Options, *, claims: bool = False, progress: OnProgress | None = None) -> CaseResult:
    """Runs the experiment into `folder`.

    Args:
        folder: Made where it doesn't exist; files of the same names are replaced.
        options: Size; by default 2 seeds, or 5 with `claims`.
        claims: Run all arms at the claims' own context norms, and judge every claim from this run's own numbers
            (`claims.json`, `claims.md`); `variant` and `context_norm` don't count then.
        progress: Told before and after each arm.
    """
    if options.preset == "paper":
        return run_paper(from_options(folder, options, claims))
    folder.mkdir(parents=True, exist_ok=True)
    seeds = options.seeds or (measurements.SEEDS if claims else SEEDS)
    steps = options.steps or (measurements.STEPS if claims else STEPS)
    settings = Settings(seeds=tuple(range(seeds)), schedule=one_loop(steps))
    if claims:
        command = ("pitprop", "case", "clip_anomaly", "--claims", "--seeds", str(seeds), "--steps", str(steps))
        results = measurements.run_claims(settings, command, progress)
    else:
        arms = story(options.context_norm, options.variant)
        results = {
            **run_arms(arms, settings, progress),
            "gradients": gradient_ladder(arms, settings),
            "references": known(),
            "provenance": provenance(("pitprop", "case", "clip_anomaly"), seeds=seeds, steps=steps),
        }
    rows = [("reference: loaded base", f"pixel AUROC {results['references']['loaded base']['pixel_auroc']:.3f}")]
    rows += [(name, _line(arm)) for name, arm in results["arms"].items()]
    store(results, folder / RESULTS)
    files = [folder / RESULTS, *draw(results, settings, folder)]
    if claims:
        judged, written = write_up(CLIP, results, folder)
        rows, files = rows + judged, files + written
    return CaseResult(title="clip_anomaly: stage 2 from the loaded base", rows=tuple(rows), files=tuple(files))


def _line(arm) -> str:
    def mean(values) -> float:
        return float(np.mean(values))

    measured = arm["last"]
    return (
        f"loss {mean(arm['loss_first']):.2f} -> {mean(arm['loss_end']):.2f}, pixel AUROC "
        f"{mean(measured['pixel_auroc']):.3f} (cross-attention off {mean(measured['pixel_auroc_without']):.3f}), "
        f"branch over stream {mean(measured['branch_ratio']):.2g}"
    )
