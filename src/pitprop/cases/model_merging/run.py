"""`pitprop case model_merging`: the collapse, the seed's experiment with its pictures, and, where asked for, every
claim.
"""

from pathlib import Path

from pitprop.cases._claims import write_up
from pitprop.cases._result import CaseResult
from pitprop.cases.model_merging.claims import MERGING
from pitprop.cases.model_merging.experiment import RESULTS, Settings, final, run_experiment
from pitprop.cases.model_merging.measurements import condense
from pitprop.cases.model_merging.options import Options
from pitprop.cases.model_merging.pictures import FILES
from pitprop.trials.progress import OnProgress

SEEDS, CLAIM_SEEDS = 2, 5


def run(folder: Path, options: Options, *, claims: bool = False, progress: OnProgress | None = None) -> CaseResult:
    """Runs the experiment into `folder`.

    Args:
        folder: Made where it doesn't exist; files of the same names are replaced.
        options: Size; by default 2 seeds, or 5 with `claims`.
        claims: Also run the control arms and judge every claim from this run's own numbers (`claims.json`,
            `claims.md`).
        progress: Told before and after each run.
    """
    seeds = options.seeds or (CLAIM_SEEDS if claims else SEEDS)
    settings = Settings(seeds=tuple(range(seeds)), steps=options.steps, recovery_steps=options.steps, controls=claims)
    results = run_experiment(folder, settings, progress)
    rows = [(name, _line(by_seed)) for name, by_seed in results["arms"].items()]
    rows += [
        (f"reference: {name}", f"spread {values['output_spread']:.3f}, accuracy {values['merged_accuracy']:.3f}")
        for name, values in results["references"].items()
    ]
    files = [folder / RESULTS, *(folder / name for name in FILES)]
    files += [folder / f"collapsed_seed{seed}.safetensors" for seed in settings.seeds]
    if claims:
        condensed = condense(results, ("pitprop", "case", "model_merging", "--claims", "--seeds", str(seeds)))
        judged, written = write_up(MERGING, condensed, folder)
        rows, files = rows + judged, files + written
    return CaseResult(title="model_merging: what the merged CNNs do", rows=tuple(rows), files=tuple(files))


def _line(by_seed) -> str:
    def mean(metric: str) -> float:
        values = final(by_seed, metric)
        return sum(values) / len(values)

    return (
        f"spread {mean('output_spread'):.3f}, distinct {mean('output_uniqueness'):.2f}, accuracy "
        f"{mean('merged_accuracy'):.3f}, "
        f"entropy {mean('attention_entropy'):.2f}"
    )
