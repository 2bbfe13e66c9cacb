"""`pitprop case clip_anomaly`: the base, the ladder of variants, its pictures, and, where asked for, every claim."""

import math
from pathlib import Path

import numpy as np

from pitprop._errors import PitpropError
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
OF_LAPTOP, OF_PAPER = ("seeds", "steps", "context_norm"), ("clip", "data", "metadata", "paper_steps")
"""Options that one preset alone knows."""


def run(folder: Path, options: Options, *, claims: bool = False, progress: OnProgress | None = None) -> CaseResult:
    """Runs the experiment into `folder`.

    Args:
        folder: Made where it doesn't exist; files of the same names are replaced.
        options: Size; by default 2 seeds, or 5 with `claims`.
        claims: Run all arms at the claims' own context norms, and judge every claim from this run's own numbers
            (`claims.json`, `claims.md`).
        progress: Told before and after each arm.

    Raises:
        PitpropError: No seeds or no steps; a context norm that isn't over 0; options of the other preset; claims on one
            variant or context norm; or see `run_paper`.
    """
    expect(options, claims=claims)
    if options.preset == "paper":
        return run_paper(from_options(folder, options, claims))
    folder.mkdir(parents=True, exist_ok=True)
    usual = (measurements.SEEDS, measurements.STEPS) if claims else (SEEDS, STEPS)
    seeds, steps = (asked or default for asked, default in zip((options.seeds, options.steps), usual, strict=True))
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


def expect(options: Options, *, claims: bool) -> None:
    """Raises `PitpropError` where there is no such experiment."""
    for name in ("seeds", "steps"):
        if (asked := getattr(options, name)) is not None and asked < 1:
            raise PitpropError(f"--{name} is {asked}.", do="give 1 or more, or leave it out.")
    if not (math.isfinite(options.context_norm) and options.context_norm > 0):
        raise PitpropError(
            f"--context-norm is {options.context_norm:g}.", do="give a number over 0, such as 1, 10 or 50."
        )
    other = "laptop" if options.preset == "paper" else "paper"
    if unheard := _changed(options, OF_LAPTOP if other == "laptop" else OF_PAPER):
        raise PitpropError(
            f"The preset `{options.preset}` knows no {', '.join(unheard)}.",
            do=f"leave that out, or add --preset {other}.",
        )
    if claims and options.preset == "laptop" and (alone := _changed(options, ("variant", "context_norm"))):
        raise PitpropError(
            f"The claims can't be judged with {', '.join(alone)}.",
            means="they compare all variants, each at its own context norms.",
            do=f"leave out {', '.join(alone)}, or --claims.",
        )


def _changed(options: Options, names: tuple[str, ...]) -> list[str]:
    usual = Options()
    return [f"--{n.replace('_', '-')}" for n in names if getattr(options, n) != getattr(usual, n)]


def _line(arm) -> str:
    def mean(values) -> float:
        return float(np.mean(values))

    measured = arm["last"]
    return (
        f"loss {mean(arm['loss_first']):.2f} -> {mean(arm['loss_end']):.2f}, pixel AUROC "
        f"{mean(measured['pixel_auroc']):.3f} (cross-attention off {mean(measured['pixel_auroc_without']):.3f}), "
        f"branch over stream {mean(measured['branch_ratio']):.2g}"
    )
